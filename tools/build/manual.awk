# Turns what `supra --help` prints into its manual page.
NR == 1 {
  print ".TH SUPRA 1\n.SH NAME\nsupra \\- " substr($0, 7) "\n.SH SYNOPSIS\n.B supra\n.I command\n[words]\n.SH COMMANDS"
}
/^  [a-z]/ {
  command = $1
  sub(/^ +[a-z]+ +/, "")
  print ".TP\n.B " command "\n" $0
}
/^supra <command>/ {
  print ".PP\n" $0
  print ".SH ENVIRONMENT\n.TP\n.B SUPRA_CPU\nbaseline, avx2, avx512, avx512bf16 or amx: the CPU level to use, at most that of the processor\n.TP\n.B SUPRA_PRODUCTS\nf32, bf16x3 or bf16: the default of --products\n.TP\n.B SUPRA_GRAPH\noff: steps on a GPU are not recorded as a graph"
}
END { print ".SH LIBRARY\nA program that embeds supra includes supra.h, which documents the library, and links libsupra." }
