#include "supra/evaluation/agreement.h"

#include "tensor/parallel.h"

namespace supra {
namespace {

// Compares the two predictions of a token.
struct Pair {
  double kl = 0, above = 0;
  bool same = false;
};

// KL(p || q) = sum_o p_o (log p_o - log q_o) of two rows of logits
Pair compare_rows(const float* teacher, double teacher_lse, const float* student, double student_lse, int64_t O, int32_t target) {
  Pair pair;
  for (int64_t o = 0; o < O; o++) {
    const float log_p = static_cast<float>(teacher[o] - teacher_lse), log_q = static_cast<float>(student[o] - student_lse);
    pair.kl += static_cast<double>(std::exp(log_p) * (log_p - log_q));
  }
  pair.above = (student_lse - student[target]) - (teacher_lse - teacher[target]);
  pair.same = std::max_element(teacher, teacher + O) - teacher == std::max_element(student, student + O) - student;
  return pair;
}

}  // namespace

Agreement measure_agreement(const Decoder& teacher, const Decoder& student, const std::vector<std::vector<int32_t>>& sequences,
                            const OnScored& on_scored) {
  constexpr int64_t kLogitRows = 256;
  NoGrad off;
  const int64_t O = student.config().vocab, total = predicted_tokens(sequences);
  CHECK(teacher.config().vocab == O, "agreement: the teacher's vocabulary has %ld tokens, the student's %ld; the same ids must mean the same text",
        static_cast<long>(teacher.config().vocab), static_cast<long>(O));
  CHECK(total > 0, "agreement: the text is too short, there is no token to predict");
  Agreement result;
  for (const std::vector<int32_t>& ids : sequences) {
    const int64_t T = static_cast<int64_t>(ids.size()) - 1;
    if (T < 1) continue;
    const Tensor tokens = Tensor::of(std::vector<int32_t>(ids.begin(), ids.end() - 1), {1, T});
    const Tensor taught = teacher.hidden(tokens).value().view({T, -1}), learned = student.hidden(tokens).value().view({T, -1});
    for (int64_t row = 0; row < T; row += kLogitRows) {
      const int64_t n = std::min(T - row, kLogitRows);
      const auto logits_of = [&](const Decoder& decoder, const Tensor& hidden) {
        return decoder.logits(Var(hidden.rows(row, row + n))).value().to(Device::cpu).to(Dtype::f32);
      };
      const Tensor t = logits_of(teacher, taught), s = logits_of(student, learned), t_lse = log_sum_exp(t), s_lse = log_sum_exp(s);
      std::vector<Pair> pairs(n);
      parallel_for(n, 8, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) {
          pairs[i] = compare_rows(t.data<float>() + i * O, t_lse.data<double>()[i], s.data<float>() + i * O, s_lse.data<double>()[i], O,
                                  ids[row + i + 1]);
        }
      });
      for (const Pair& pair : pairs) {
        result.kl.add(pair.kl);
        result.top1.add(pair.same);
        result.above.add(pair.above);
      }
      if (on_scored) on_scored(result.kl.n, total);
    }
  }
  return result;
}

}  // namespace supra
