# What every kernel takes of a GPU (make cuda-report): of what nvcc -Xptxas -v said, and of the lines .entry, .maxntid,
# atom and red of the kernels' PTX, names by c++filt -p. Fails where a kernel keeps a part of its registers in memory, has
# more of them than a launch of its largest block gets, or adds floats atomically, in anyone's order.
# Shared memory is what is fixed at compile time; what a launch asks for comes on top, and is not known here.

function clean(name) {
  gsub(/supra::|cuda::|\(anonymous namespace\)::/, "", name)
  return name
}

/Compiling entry function/ {
  split($0, quoted, "'")
  name = clean(quoted[2])
  arch = quoted[4]
  if ((name, arch) in registers) name = name " again"
  if (!(name in known)) { known[name]; names[++count] = name }
  if (!(arch in seen)) { seen[arch]; archs[++arch_count] = arch }
  if (length(name) > width) width = length(name)
}

/bytes stack frame/ { spilled[name, arch] += $1 }

/Used [0-9]+ registers/ {
  match($0, /[0-9]+ registers/)
  registers[name, arch] = substr($0, RSTART) + 0
  shared[name, arch] = match($0, /[0-9]+ bytes smem/) ? substr($0, RSTART) + 0 : 0
}

/^\.entry/ { name = clean(substr($0, 8)) }
/^\.maxntid/ { threads[name] = $2 * $3 * $4 }
/^(atom|red)\./ { bad[name] = "adds floats atomically: " $0 }

END {
  printf "%-*s  threads", width, "kernel"
  for (a = 1; a <= arch_count; a++) printf "  %s registers  spilled  shared", archs[a]
  print ""
  for (i = 1; i <= count; i++) {
    name = names[i]
    most = name in threads ? threads[name] : 1024
    printf "%-*s  %7d", width, name, most
    for (a = 1; a <= arch_count; a++) {
      key = name SUBSEP archs[a]
      printf "  %15d  %7d  %6d", registers[key], spilled[key], shared[key]
      if (spilled[key]) bad[name] = "keeps registers in memory"
      if (registers[key] * most > 65536) bad[name] = "has too many registers for a block of " most
    }
    print ""
  }
  if (count == 0 || length(threads) == 0) { print "no kernels: are these the logs and objects of make cuda?"; exit 1 }
  for (name in bad) { printf "%s %s\n", name, bad[name]; failed = 1 }
  if (failed) exit 1
  printf "%d kernels: none spills, all can be launched, none adds floats atomically\n", count
}
