#include "supra/tokenizers/pair_merger.h"

#include <algorithm>

#include "tensor/error.h"

namespace supra {

bool PieceTable::add(std::string_view text, Entry entry) {
  if (!entries_.try_emplace(text, entry).second) return false;
  for (size_t i = 1; i < text.size(); i++) joins_.set(index(text[i - 1], text[i]));
  return true;
}

void PieceTable::add_merge(std::string_view text, size_t left, float score) {
  Entry& entry = entries_.at(text);
  if (entry.left != kNone) {
    more_.push_back(entry);
    entry.next = static_cast<int32_t>(more_.size()) - 1;
  }
  entry.left = static_cast<uint32_t>(left);
  entry.score = score;
}

int32_t PieceTable::find(std::string_view text) const {
  const auto found = entries_.find(text);
  return found == entries_.end() ? -1 : found->second.id;
}

const float* PieceTable::find_merge(std::string_view text, size_t left) const {
  const auto found = entries_.find(text);
  if (found == entries_.end()) return nullptr;
  for (const Entry* entry = &found->second;; entry = &more_[static_cast<size_t>(entry->next)]) {
    if (entry->left == kAny || entry->left == left) return &entry->score;
    if (entry->next < 0) return nullptr;
  }
}

void PairMerger::add(std::string_view symbol) {
  if (!run_.empty() && !table_.may_join(run_.back(), symbol.front())) finish();
  CHECK(run_.size() + symbol.size() <= INT32_MAX, "tokenizer: 2 GiB of text without a break (cut it into documents)");
  const auto i = static_cast<int32_t>(symbols_.size());
  if (i > 0) symbols_.back().next = i;
  symbols_.push_back({static_cast<uint32_t>(run_.size()), static_cast<uint32_t>(symbol.size()), i - 1, -1});
  run_ += symbol;
}

void PairMerger::finish() {
  for (size_t i = 0; i < symbols_.size(); i++) consider(static_cast<int32_t>(i));
  while (!heap_.empty()) {
    std::pop_heap(heap_.begin(), heap_.end(), is_worse);
    const Pair best = heap_.back();
    heap_.pop_back();
    merge(best);
  }
  for (const Symbol& symbol : symbols_) {
    if (symbol.size == 0) continue;
    emit_(text_of(symbol), table_.find(text_of(symbol)));
  }
  symbols_.clear();
  run_.clear();
}

bool PairMerger::is_worse(const Pair& a, const Pair& b) {
  return a.score != b.score ? a.score < b.score : a.left > b.left;
}

std::string_view PairMerger::text_of(const Symbol& symbol) const {
  return std::string_view(run_).substr(symbol.begin, symbol.size);
}

// Puts a symbol and its right neighbour on the heap if they may be merged.
void PairMerger::consider(int32_t left) {
  const int32_t right = left < 0 ? -1 : symbols_[left].next;
  if (right < 0) return;
  const uint32_t size = symbols_[left].size + symbols_[right].size;
  const float* score = table_.find_merge(std::string_view(run_).substr(symbols_[left].begin, size), symbols_[left].size);
  if (!score) return;
  heap_.push_back({*score, left, right, size});
  std::push_heap(heap_.begin(), heap_.end(), is_worse);
}

void PairMerger::merge(const Pair& pair) {
  Symbol& left = symbols_[pair.left];
  Symbol& right = symbols_[pair.right];
  if (left.size == 0 || right.size == 0 || left.size + right.size != pair.size) return;
  left.size = pair.size;
  left.next = right.next;
  right.size = 0;
  if (left.next >= 0) symbols_[left.next].previous = pair.left;
  consider(left.previous);
  consider(pair.left);
}

}  // namespace supra
