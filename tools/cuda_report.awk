# What every kernel takes of a GPU, as nvcc -Xptxas -v said it, names by c++filt -p; fails where one spills:
#   cat build/cuda/objects/*/*.cu.log | c++filt -p | awk -f tools/cuda_report.awk
# Shared memory is what is fixed at compile time; what a launch asks for comes on top.

/Compiling entry function/ {
  split($0, quoted, "'")
  name = quoted[2]
  arch = quoted[4]
  gsub(/supra::|cuda::|\(anonymous namespace\)::/, "", name)
  if ((name, arch) in registers) name = name " again"
  if (!(name in known)) { known[name]; names[++count] = name }
  if (!(arch in seen)) { seen[arch]; archs[++arch_count] = arch }
  if (length(name) > width) width = length(name)
}

/bytes stack frame/ { spilled[name, arch] += $5 + $9 }

/Used [0-9]+ registers/ {
  match($0, /[0-9]+ registers/)
  registers[name, arch] = substr($0, RSTART) + 0
  shared[name, arch] = match($0, /[0-9]+ bytes smem/) ? substr($0, RSTART) + 0 : 0
}

END {
  printf "%-*s", width, "kernel"
  for (a = 1; a <= arch_count; a++) printf "  %s registers  spilled  shared", archs[a]
  print ""
  for (i = 1; i <= count; i++) {
    printf "%-*s", width, names[i]
    for (a = 1; a <= arch_count; a++) {
      key = names[i] SUBSEP archs[a]
      printf "  %15d  %7d  %6d", registers[key], spilled[key], shared[key]
      bad += spilled[key] > 0
    }
    print ""
  }
  if (count == 0) { print "no kernels: are these the logs of make cuda?"; exit 1 }
  if (bad) { printf "kernels that spill registers to memory: %d\n", bad; exit 1 }
  printf "%d kernels, none spills\n", count
}
