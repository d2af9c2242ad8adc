#include "kernels/by_rows.h"

namespace supra {

float* rows_from(int64_t begin, int64_t N, const Tensor& rows) { return rows.data<float>() + begin * (rows.numel() / N); }

void add_row_sums(const std::vector<float*>& sums, int64_t N, int64_t C,
                  FunctionRef<void(int64_t begin, int64_t end, float* partial)> f) {
  constexpr int64_t kRows = 64;
  const int64_t blocks = (N + kRows - 1) / kRows, width = static_cast<int64_t>(sums.size()) * C;
  const Tensor partials = Tensor::empty({blocks, width});
  parallel_each(blocks, row_grain(kRows * C), [&](int64_t block) {
    float* partial = partials.data<float>() + block * width;
    std::fill_n(partial, width, 0.0f);
    f(block * kRows, std::min(N, (block + 1) * kRows), partial);
  });
  parallel_for(C, row_grain(blocks), [&](int64_t begin, int64_t end) {
    const float* partial = partials.data<float>();
    for (float* sum : sums) {
      for (int64_t block = 0; sum && block < blocks; block++) {
        for (int64_t i = begin; i < end; i++) sum[i] += partial[block * width + i];
      }
      partial += C;
    }
  });
}

}  // namespace supra
