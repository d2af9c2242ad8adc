# Lines of code by group, from what `wc -l` says of each file. The core is what one reads to understand the method. Every group has a
# ceiling. A change that raises one says why in its commit message.

function group_of(path) {
  if (path ~ /\.cuh?$|\/cuda[^\/]*$|^tensor\/device\./) return "GPU"
  if (path ~ /^supra\/(formats|tokenizers)\//) return "files of others: formats, tokenizers"
  if (path ~ /^supra\/evaluation\/|roofs|^tools\/(bench|compare|plot)|^tools\/demo\/(lab|students)/)
    return "measuring: evaluation, bench, plots, lab"
  if (path ~ /^tools\/|^supra\/embed\/|^supra\/supra\.h$/) return "program and hosts"
  return "core: tensor, autograd, operations and their CPU kernels, nn, layers, training, inference"
}

BEGIN { ceilings["core"] = 14000; ceilings["GPU"] = 6700; ceilings["files"] = 11600; ceilings["measuring"] = 7400; ceilings["program"] = 6300 }
$2 == "total" { next }
{
  group = group_of($2)
  if (!(group in lines)) order[++groups] = group
  lines[group] += $1
  all += $1
}
END {
  for (i = 1; i <= groups; i++) {
    split(order[i], word, /[: ]/)
    most = ceilings[word[1]]
    is_above = lines[order[i]] > most
    printf "%7d of %5d  %s%s\n", lines[order[i]], most, order[i], (is_above ? "  <- above its ceiling, see tools/build/loc.awk" : "")
    above += is_above
  }
  printf "%7d           in all\n", all
  exit (above > 0)
}
