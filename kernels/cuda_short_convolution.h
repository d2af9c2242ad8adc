#pragma once
#include <vector>

#include "kernels/cuda.h"
#include "kernels/cuts.h"

// The documents in the rows of short_convolution() for its GPU kernels.

namespace supra {

// The sizes, and the memory that they point to.
struct ConvolutionOnGpu {
  Tensor begin, last;
  cuda::ShortConvolutionSizes n;

  ConvolutionOnGpu(int64_t B, int64_t T, int64_t C, int64_t W, const std::vector<std::vector<Segment>>& documents)
      : n{B, T, C, W, nullptr, nullptr} {
    std::vector<int32_t> begins(B * T, static_cast<int32_t>(T)), lasts;
    bool whole = true;
    for (int64_t b = 0; b < B; b++) {
      for (const Segment& document : documents[b]) {
        std::fill_n(begins.begin() + b * T + document.begin, document.end - document.begin, static_cast<int32_t>(document.begin));
        whole = whole && document.begin == 0 && document.end == T;
      }
      const Segment& end = documents[b].back();
      lasts.insert(lasts.end(), {static_cast<int32_t>(end.begin), static_cast<int32_t>(end.end)});
    }
    // a recorded step has nothing to copy
    if (whole) return;
    begin = Tensor::of(begins).to(Device::cuda), last = Tensor::of(lasts).to(Device::cuda);
    n.begin = begin.data<int32_t>(Device::cuda), n.last = last.data<int32_t>(Device::cuda);
  }
};

}  // namespace supra
