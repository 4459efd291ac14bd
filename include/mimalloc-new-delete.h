/* mimalloc-new-delete.h - the operators new and delete of a C++ program, from mirt.
 *
 * Include this in exactly one source file of a program: it defines the global operators,
 * which C++ lets a program replace, and a program has one of each. C++11 and later; sized
 * and aligned forms where the language has them. As C it declares nothing.
 *
 * The operators do what ISO C++ says of them. When memory is short they call the new
 * handler and try again; without a handler, the throwing ones throw std::bad_alloc (built
 * without exceptions: abort), and those with std::nothrow return a null pointer. Any
 * thread may call them, and delete what another one made. An address that is not a block
 * is reported as mi_free reports it.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef MIMALLOC_NEW_DELETE_H
#define MIMALLOC_NEW_DELETE_H

#ifdef __cplusplus

#include <mimalloc.h>
#include <new>

namespace mi_cxx {

/* Allocate, or throw. The exception starts here, not in C code. */
inline void* new_block(std::size_t size, std::size_t alignment = natural_alignment) {
  return default_heap().take(size, alignment);
}

/* Allocate, or return a null pointer, whatever the new handler throws. */
inline void* new_block_nothrow(std::size_t size,
                               std::size_t alignment = natural_alignment) noexcept {
#if defined(__cpp_exceptions)
  try {
    return new_block(size, alignment);
  } catch (...) {
    return nullptr;
  }
#else
  return alignment <= natural_alignment ? mi_new_nothrow(size)
                                        : mi_new_aligned_nothrow(size, alignment);
#endif
}

}  // namespace mi_cxx

/* Single objects and arrays, throwing or not. */
void* operator new(std::size_t size) { return mi_cxx::new_block(size); }
void* operator new[](std::size_t size) { return mi_cxx::new_block(size); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return mi_cxx::new_block_nothrow(size);
}
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept {
  return mi_cxx::new_block_nothrow(size);
}

/* Their counterparts; those with std::nothrow run when a constructor has thrown. */
void operator delete(void* p) noexcept { mi_free(p); }
void operator delete[](void* p) noexcept { mi_free(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { mi_free(p); }
void operator delete[](void* p, const std::nothrow_t&) noexcept { mi_free(p); }

/* C++14: the compiler knows the size. */
#if __cplusplus >= 201402L
void operator delete(void* p, std::size_t size) noexcept { mi_free_size(p, size); }
void operator delete[](void* p, std::size_t size) noexcept { mi_free_size(p, size); }
#endif

/* C++17: types with a larger alignment than usual. */
#if defined(__cpp_aligned_new)
void* operator new(std::size_t size, std::align_val_t alignment) {
  return mi_cxx::new_block(size, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t size, std::align_val_t alignment) {
  return mi_cxx::new_block(size, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t size, std::align_val_t alignment,
                   const std::nothrow_t&) noexcept {
  return mi_cxx::new_block_nothrow(size, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t size, std::align_val_t alignment,
                     const std::nothrow_t&) noexcept {
  return mi_cxx::new_block_nothrow(size, static_cast<std::size_t>(alignment));
}

void operator delete(void* p, std::align_val_t alignment) noexcept {
  mi_free_aligned(p, static_cast<std::size_t>(alignment));
}
void operator delete[](void* p, std::align_val_t alignment) noexcept {
  mi_free_aligned(p, static_cast<std::size_t>(alignment));
}
void operator delete(void* p, std::size_t size, std::align_val_t alignment) noexcept {
  mi_free_size_aligned(p, size, static_cast<std::size_t>(alignment));
}
void operator delete[](void* p, std::size_t size, std::align_val_t alignment) noexcept {
  mi_free_size_aligned(p, size, static_cast<std::size_t>(alignment));
}
void operator delete(void* p, std::align_val_t alignment,
                     const std::nothrow_t&) noexcept {
  mi_free_aligned(p, static_cast<std::size_t>(alignment));
}
void operator delete[](void* p, std::align_val_t alignment,
                       const std::nothrow_t&) noexcept {
  mi_free_aligned(p, static_cast<std::size_t>(alignment));
}
#endif

#endif /* __cplusplus */

#endif /* MIMALLOC_NEW_DELETE_H */
