#!/bin/sh
# Finds an nvcc and a C++ compiler that it accepts, and prints both. usage: tools/build/find_nvcc.sh [NVCC [CXX]]
# Each may be several, separated by spaces; the first pair that works is taken. If there is none, it prints what is missing
# and how to get it, and exits with 1.
#
# The .cu files need CUDA 12.0: -std=c++20, and cudaGraphInstantiate() with three arguments. Which compilers an nvcc accepts
# stands in its own headers (g++ 13 from CUDA 12.4 on), so it is asked.

get="make cuda needs CUDA 12.0 or later: NVIDIA's package cuda-toolkit, https://developer.nvidia.com/cuda-downloads"
nvccs=${1:-$(command -v nvcc) /usr/local/cuda/bin/nvcc $(ls -rd /usr/local/cuda-*/bin/nvcc 2>/dev/null)}
hosts=${2:-g++ g++-15 g++-14 g++-13 g++-12 g++-11 clang++}
trouble="no nvcc was found"

for name in $nvccs; do
  # its path: the Makefile looks for the libraries beside it
  nvcc=$(command -v "$name") || continue
  version=$("$nvcc" --version 2>/dev/null | sed -n 's/.*release \([0-9]*\.[0-9]*\).*/\1/p')
  [ -n "$version" ] || continue
  if [ "${version%.*}" -lt 12 ]; then
    trouble="$nvcc is of CUDA $version"
    continue
  fi
  refused=
  for host in $hosts; do
    command -v "$host" >/dev/null || continue
    "$nvcc" -std=c++20 -ccbin "$host" -E -x cu /dev/null -o /dev/null 2>/dev/null && echo "$nvcc $host" && exit 0
    refused="$refused${refused:+, }$host $("$host" -dumpversion 2>/dev/null)"
  done
  trouble="$nvcc is of CUDA $version and accepts none of the C++ compilers here (${refused:-there is none})"
  get="g++ 13 needs CUDA 12.4 or later, from https://developer.nvidia.com/cuda-downloads; or install an older compiler: apt-get install g++-12"
done
echo "$trouble ($get)"
exit 1
