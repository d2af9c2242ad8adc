#include "supra/training/divergence.h"

namespace supra {

double divergence(const Decoder& student, const Tensor& own, const Decoder& teacher, const Tensor& taught, int64_t from) {
  const int64_t B = own.dim(0), T = own.dim(1);
  double sum = 0;
  for (int64_t b = 0; b < B; b++) {
    const auto late = [&](const Tensor& x) { return x.view({B * T, -1}).rows(b * T + from, (b + 1) * T); };
    const auto logits = [&](int64_t first, const Tensor&, const Tensor& into) {
      into.copy_from(teacher.logits(Var(late(taught).rows(first, first + into.dim(0)))).value());
    };
    sum += student.loss(Var(late(own)), Tensor::zeros({T - from}, Dtype::i32), 0, {logits, 1}).value().item();
  }
  return sum / static_cast<double>(B);
}

Tensor swapped_hidden(const Decoder& model, const Decoder& teacher, int64_t layer, const Var& x, const Steps& steps) {
  Var y = model.block(layer, x, steps);
  for (int64_t next = layer + 1; next < teacher.layers(); next++) y = teacher.block(next, y, steps);
  return teacher.last_norm(y).value();
}

}  // namespace supra
