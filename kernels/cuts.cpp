#include "kernels/cuts.h"

namespace supra {

void check_cuts(const char* op, const Cuts& cuts, const std::vector<int64_t>& lengths) {
  CHECK(cuts.empty() || cuts.size() == lengths.size(), "%s: cuts of %zu rows, expected %zu (or none)", op,
        cuts.size(), lengths.size());
  for (size_t b = 0; b < cuts.size(); b++) {
    int64_t last = 0;
    for (int64_t cut : cuts[b]) {
      CHECK(cut > last && cut < lengths[b],
            "%s: row %zu of %ld steps is cut at %ld after %ld, expected ascending cuts in 1 to %ld", op, b,
            static_cast<long>(lengths[b]), static_cast<long>(cut), static_cast<long>(last),
            static_cast<long>(lengths[b] - 1));
      last = cut;
    }
  }
}

std::vector<std::vector<Segment>> segments(const char* op, const Cuts& cuts, const std::vector<int64_t>& lengths) {
  check_cuts(op, cuts, lengths);
  std::vector<std::vector<Segment>> rows(lengths.size());
  for (size_t b = 0; b < rows.size(); b++) {
    rows[b].push_back({0, lengths[b]});
    for (int64_t cut : cuts.empty() ? std::vector<int64_t>() : cuts[b]) {
      rows[b].back().end = cut;
      rows[b].push_back({cut, lengths[b]});
    }
  }
  return rows;
}

void check_heads(const char* op, const Tensor& q, const Tensor& k, const Tensor& v) {
  CHECK(q.rank() == 4 && k.rank() == 4 && v.rank() == 4, "%s: q is %s, k is %s, v is %s, expected (B,T,heads,dim) each", op,
        to_string(q.shape()).c_str(), to_string(k.shape()).c_str(), to_string(v.shape()).c_str());
  const int64_t H = q.dim(2), Gk = k.dim(2), Gv = v.dim(2);
  CHECK(Gk > 0 && Gv > 0 && H % Gk == 0 && H % Gv == 0,
        "%s: %ld query heads cannot share %ld key heads and %ld value heads evenly", op, static_cast<long>(H),
        static_cast<long>(Gk), static_cast<long>(Gv));
}

void positions(std::vector<int64_t>& all, const char* op, std::span<const int64_t> first, int64_t T, const Cuts& cuts) {
  if (!cuts.empty()) check_cuts(op, cuts, std::vector<int64_t>(first.size(), T));
  all.clear();
  all.reserve(first.size() * static_cast<size_t>(T));
  for (size_t b = 0; b < first.size(); b++) {
    int64_t position = first[b];
    size_t cut = 0;
    for (int64_t t = 0; t < T; t++) {
      if (!cuts.empty() && cut < cuts[b].size() && cuts[b][cut] == t) position = 0, cut++;
      all.push_back(position++);
    }
  }
}

}  // namespace supra
