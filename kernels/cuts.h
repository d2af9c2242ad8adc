#pragma once
#include <span>

#include "kernels/ops.h"

// Documents packed behind one another in a row of a batch. Both attentions walk a row document by document,
// with the code that knows nothing of them.

namespace supra {

// Columns [begin, end) of a row: one document, or what of it stands in this row.
struct Segment {
  int64_t begin, end;
};

// The first key of a document in a row whose first step is the key `first_step`: what keys there are before that step belong to
// the row's first document.
inline int64_t first_key(int64_t first_step, Segment document) { return document.begin == 0 ? 0 : first_step + document.begin; }

// Throws unless the cuts are none at all or (B) lists that ascend within 1 ... lengths[b] - 1.
void check_cuts(const char* op, const Cuts& cuts, const std::vector<int64_t>& lengths);

// Of each row (B) its documents, in order: one at least, though it be empty. Checks the cuts.
std::vector<std::vector<Segment>> segments(const char* op, const Cuts& cuts,
                                           const std::vector<int64_t>& lengths);

// all (B*T): the position of each column. Row b counts on from first[b], and from 0 at each of its cuts. Checks
// these. Allocates nothing where `all` has had as many before.
void positions(std::vector<int64_t>& all, const char* op, std::span<const int64_t> first, int64_t T, const Cuts& cuts);

}  // namespace supra
