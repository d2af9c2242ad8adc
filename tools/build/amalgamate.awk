# Writes supra_embed.cpp: the library for hosts as one file. Reads the names of its sources, one a line; what stands
# in foo.simd.cpp comes last, once a level, each time compiled for the processors of that level.

# A file with what it includes in its place, each header once; a header of the levels (vec.h) once a level.
function inline(path,    line, part) {
  if (path in seen) return
  seen[path] = 1
  put(path, "\n// ---- " path "\n")
  while ((getline line < path) > 0) {
    if (line == "#pragma once" || line == "#include \"supra/supra.h\"") continue
    if (line ~ /^#include "/) {
      split(line, part, "\"")
      inline(part[2])
    } else if (line ~ /^#include </ && line !~ /cblas|cpuid|mmintrin/) {
      if (!(line in included)) headers = headers line "\n"
      included[line] = 1
    } else put(path, path in renames ? renamed(line, path) : line)
  }
  close(path)
}

# What the linker may see stands behind all else, which it may not: so the compiler leaves out what is not called.
function put(path, text) {
  if (path ~ /allocator.cpp$/ && text ~ /^void\* operator new/) global = path
  if (path ~ /embed\/api.cpp$/ || (global && path == global)) seen_by_linker = seen_by_linker text "\n"
  else body = body text "\n"
}

# Notes the names that a source keeps to itself, and those that another one keeps too: they get its own name behind.
function note_names(path,    line, hidden, name, stem) {
  stem = path
  gsub(/^.*\/|\.cpp$/, "", stem)
  while ((getline line < path) > 0) {
    if (line == "namespace {") hidden = 1
    if (line == "}  // namespace") hidden = 0
    # names of an enumeration would be in the way of what follows
    if (line ~ /^(using )?enum [A-Z]/) last[path] = 1
    sub(/^\[\[[a-z]*\]\] /, "", line)
    if (!(line ~ /^(static|constexpr) / || (hidden && line ~ /^[A-Za-z]/)) || line ~ /^(template|static_assert|using enum)/) continue
    name = line
    sub(/^static /, "", name)
    # what is defined stands before the first of these, or is the second word
    if (name ~ /^(struct|class|enum class|enum|using) /) {
      sub(/^(struct|class|enum class|enum|using) /, "", name)
      sub(/[^A-Za-z0-9_].*/, "", name)
    } else {
      sub(/(\(| =|\[|;|\{).*/, "", name)
      if (name ~ /::[A-Za-z0-9_]*$/) continue
      sub(/.*[^A-Za-z0-9_]/, "", name)
    }
    if (name == "") continue
    if (!(name in owner)) owner[name] = path
    if (owner[name] != path) {
      renames[path] = 1
      new_name[path, name] = name "_" stem
    }
  }
  close(path)
}

function renamed(line, path,    done, word, before) {
  done = ""
  while (match(line, /[A-Za-z_][A-Za-z0-9_]*/)) {
    word = substr(line, RSTART, RLENGTH)
    before = done substr(line, 1, RSTART - 1)
    if ((path, word) in new_name && before !~ /(\.|->|std::|cuda::|[A-Z][A-Za-z0-9]*::)$/) word = new_name[path, word]
    done = before word
    line = substr(line, RSTART + RLENGTH)
  }
  return done line
}

# `macros`: what a compiler defines for this target on its command line, but not here (g++ has read all tokens of the
# file before it comes to the pragma).
function level(name, target, macros,    i, n, macro) {
  for (i in seen) if (is_of_level(i)) delete seen[i]
  put("", "\n// ==== the kernels for " name "\n\n#define SUPRA_LEVEL " name)
  n = split(macros, macro, " ")
  if (n) {
    put("", "#if defined(__clang__)")
    put("", "#pragma clang attribute push(__attribute__((target(\"" target "\"))), apply_to = function)")
    put("", "#else\n#pragma GCC push_options\n#pragma GCC target(\"" target "\")\n#endif")
    for (i = 1; i <= n; i++)
      put("", "#pragma push_macro(\"" macro[i] "\")\n#undef " macro[i] "\n#define " macro[i] " 1")
  }
  for (i = 1; i <= kernels; i++) inline(kernel[i])
  if (n) {
    for (i = 1; i <= n; i++) put("", "#pragma pop_macro(\"" macro[i] "\")")
    put("", "#if defined(__clang__)\n#pragma clang attribute pop\n#else\n#pragma GCC pop_options\n#endif")
  }
  put("", "#undef SUPRA_LEVEL")
}

function is_of_level(path,    line, found) {
  found = 0
  while ((getline line < path) > 0) if (line ~ /^namespace supra::SUPRA_LEVEL/) found = 1
  close(path)
  return found
}

BEGIN {
  print "// supra, a recurrent language model in a program that has nothing else: compile this one file (C++20, -O2) and"
  print "// include supra.h. It defines operator new and delete for the whole program. With -DSUPRA_HOST_NEW, and in a shared"
  print "// object, it does not: then only large blocks of memory come from supra_options.\n"
  print "#if __cplusplus < 202002L\n#error \"compile supra_embed.cpp as C++20 (-std=c++20)\"\n#endif"
  print "#if defined(__PIC__) && !defined(__PIE__) && !defined(SUPRA_HOST_NEW)\n#define SUPRA_HOST_NEW\n#endif\n"
  print "#include \"supra.h\"\n\n#if defined(__x86_64__)\n#include <cpuid.h>\n#include <immintrin.h>\n#endif\n\n#define SUPRA_INFERENCE\n#define SUPRA_EMBED\n#define SUPRA_KERNEL [[maybe_unused]] static"
}

/\.simd\.cpp$/ { kernel[++kernels] = $0; next }
{ source[++sources] = $0 }

END {
  for (s = 1; s <= sources; s++) note_names(source[s])
  # small rather than fast: all that takes time stands in the kernels
  put("", "#if defined(__clang__)\n#pragma clang attribute push(__attribute__((minsize)), apply_to = function)")
  put("", "#elif defined(__OPTIMIZE__)\n#pragma GCC push_options\n#pragma GCC optimize(\"Os\")\n#endif")
  for (s = 1; s <= sources; s++) if (!(source[s] in last)) inline(source[s])
  for (s = 1; s <= sources; s++) inline(source[s])
  # few processors have nothing better than a baseline that is not the only level
  pop = "#if defined(__clang__)\n#pragma clang attribute pop\n#elif defined(__OPTIMIZE__)\n#pragma GCC pop_options\n#endif"
  put("", "#if !defined(__x86_64__)\n" pop "\n#endif")
  level("baseline")
  put("", "\n#if defined(__x86_64__)\n" pop)
  level("avx2", "avx2,fma,f16c", "__AVX__ __AVX2__ __FMA__ __F16C__")
  level("avx512", "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq",
        "__AVX__ __AVX2__ __FMA__ __F16C__ __AVX512F__ __AVX512BW__ __AVX512VL__ __AVX512DQ__")
  put("", "#endif")
  print headers
  print "#pragma GCC diagnostic ignored \"-Wunused-function\"\nnamespace {\n" body "}  // namespace"
  sub(/void\* operator new/, "#if !defined(SUPRA_HOST_NEW)\nvoid* operator new", seen_by_linker)
  print seen_by_linker "#endif"
}
