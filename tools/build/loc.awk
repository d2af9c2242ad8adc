# Lines of code by group, from what `wc -l` says of each file. The core is what one reads to understand the method.

function group_of(path) {
  if (path ~ /\.cuh?$|\/cuda[^\/]*$|^tensor\/device\./) return "GPU"
  if (path ~ /^supra\/(formats|tokenizers)\//) return "files of others: formats, tokenizers"
  if (path ~ /^supra\/evaluation\/|roofs|^tools\/(bench|compare|plot)|^tools\/demo\/(lab|students)/)
    return "measuring: evaluation, bench, plots, lab"
  if (path ~ /^tools\/|^supra\/embed\/|^supra\/supra\.h$/) return "program and hosts"
  return "core: tensor, autograd, operations and their CPU kernels, nn, layers, training, inference (at most 14000)"
}

$2 == "total" { next }
{
  group = group_of($2)
  if (!(group in lines)) order[++groups] = group
  lines[group] += $1
  all += $1
}
END {
  for (i = 1; i <= groups; i++) printf "%7d  %s\n", lines[order[i]], order[i]
  printf "%7d  in all\n", all
}
