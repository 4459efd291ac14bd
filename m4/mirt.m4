dnl Macros of mirt's configure.ac.
dnl Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT

dnl MIRT_C_FLAG(FLAG, [IF-SUPPORTED], [IF-NOT])
dnl Ask the C compiler whether it takes FLAG without complaint. The default for
dnl IF-SUPPORTED is to append FLAG to MIRT_CFLAGS.
AC_DEFUN([MIRT_C_FLAG], [
  AS_VAR_PUSHDEF([mirt_flag], [mirt_cv_c_flag_$1])
  AC_CACHE_CHECK([whether $CC accepts $1], [mirt_flag],
    [mirt_saved_cflags=$CFLAGS
     dnl A compiler ignores -Wno-anything that it does not know: ask for the warning.
     CFLAGS="$CFLAGS -Werror m4_bpatsubst([$1], [^-Wno-], [-W])"
     AC_COMPILE_IFELSE([AC_LANG_SOURCE([[typedef int unit_is_not_empty;]])],
       [AS_VAR_SET([mirt_flag], [yes])], [AS_VAR_SET([mirt_flag], [no])])
     CFLAGS=$mirt_saved_cflags])
  AS_VAR_IF([mirt_flag], [yes],
    [m4_default([$2], [MIRT_CFLAGS="${MIRT_CFLAGS:+$MIRT_CFLAGS }$1"])], [$3])
  AS_VAR_POPDEF([mirt_flag])
])

dnl MIRT_LINK_FLAG(FLAG, [IF-SUPPORTED], [IF-NOT])
AC_DEFUN([MIRT_LINK_FLAG], [
  AS_VAR_PUSHDEF([mirt_flag], [mirt_cv_link_flag_$1])
  AC_CACHE_CHECK([whether $CC links with $1], [mirt_flag],
    [mirt_saved_ldflags=$LDFLAGS
     LDFLAGS="$LDFLAGS $1"
     AC_LINK_IFELSE([AC_LANG_PROGRAM],
       [AS_VAR_SET([mirt_flag], [yes])], [AS_VAR_SET([mirt_flag], [no])])
     LDFLAGS=$mirt_saved_ldflags])
  AS_VAR_IF([mirt_flag], [yes], [$2], [$3])
  AS_VAR_POPDEF([mirt_flag])
])

dnl MIRT_CHECK_ATOMIC_OPS([IF-FOUND], [IF-NOT])
dnl Does atomic_ops.h work with ATOMIC_OPS_CFLAGS? On most targets its operations are
dnl all inline; ATOMIC_OPS_LIBS keeps the library only where it is needed.
AC_DEFUN([MIRT_CHECK_ATOMIC_OPS], [
  AC_CACHE_CHECK([how to use libatomic_ops], [mirt_cv_atomic_ops],
    [mirt_saved_cppflags=$CPPFLAGS
     mirt_saved_libs=$LIBS
     CPPFLAGS="$CPPFLAGS $ATOMIC_OPS_CFLAGS"
     mirt_cv_atomic_ops=missing
     for mirt_try in "" "${ATOMIC_OPS_LIBS:--latomic_ops}"; do
       LIBS="$mirt_try $mirt_saved_libs"
       AC_LINK_IFELSE(
         [AC_LANG_PROGRAM([[#include <atomic_ops.h>
           static AO_t cell;]],
           [[AO_store_release(&cell, 1);
             AO_or_full(&cell, 2);
             AO_fetch_and_add_full(&cell, 1);
             AO_nop_full();
             return AO_compare_and_swap_full(&cell, AO_load_acquire(&cell), 0);]])],
         [AS_IF([test -z "$mirt_try"],
            [mirt_cv_atomic_ops="inline"], [mirt_cv_atomic_ops=$mirt_try])
          break])
     done
     CPPFLAGS=$mirt_saved_cppflags
     LIBS=$mirt_saved_libs])
  AS_CASE([$mirt_cv_atomic_ops],
    [missing], [$2],
    [inline], [ATOMIC_OPS_LIBS=
     $1],
    [ATOMIC_OPS_LIBS=$mirt_cv_atomic_ops
     $1])
])
