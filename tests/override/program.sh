# Subshells, pipes, arrays, functions that call themselves, here documents.
declare -A squares
for ((i = 0; i < 2000; i++)); do squares[$i]=$((i * i)); done
echo "${#squares[@]} ${squares[1999]}"
text=
for ((i = 0; i < 2000; i++)); do text+="line $i of the text "; done
echo "${#text} ${text:1000:20} ${text//line/row}" | cksum
fibonacci() {
  if (($1 < 2)); then
    echo "$1"
  else
    echo $(($(fibonacci $(($1 - 1))) + $(fibonacci $(($1 - 2)))))
  fi
}
fibonacci 7
seq 1 20000 | (while read -r n; do echo $((n % 97)); done) | sort -n | uniq -c | tail -n 3
(
  exec 2>&1
  trap 'echo left $?' EXIT
  exit 3
)
echo "code $?"
mapfile -t lines < <(seq 1 3000 | tr 1 x)
printf '%s\n' "${lines[@]:2990}"
cat <<END | grep -c o
${lines[@]}
$(for n in one two three four; do echo "$n"; done)
END
for n in 1 2 3 4; do (seq 1 "$((n * 1000))" | paste -sd+ | cksum) & done | sort
wait
