#include "kernels/cuda_rope_tables.h"

namespace supra {

static thread_local RopeTables* steady_tables = nullptr;

RopeTables::Scope::Scope(RopeTables& tables) : Scoped(steady_tables, &tables) {}
RopeTables* RopeTables::in_scope() { return steady_tables; }

static Tensor as_i32(const std::vector<int64_t>& positions) {
  return Tensor::of(std::vector<int32_t>(positions.begin(), positions.end()));
}

void RopeTables::move_to(const std::vector<int64_t>& first) {
  if (positions_.defined()) positions_.copy_from(as_i32(first));
  for (const std::unique_ptr<RopeTable>& table : tables_) {
    // angles by head do not depend on positions
    if (table->rope.layout == Rope::Layout::by_head || table->positions == first) continue;
    const RopeTable moved = rope_table(table->rope, first, Device::cpu);
    table->cosine.copy_from(moved.cosine);
    table->sine.copy_from(moved.sine);
    table->positions = first;
  }
}

const RopeTable& RopeTables::of(const Rope& rope, const std::vector<int64_t>& positions) {
  for (const std::unique_ptr<RopeTable>& table : tables_) {
    if (table->rope == rope && table->positions.size() == positions.size()) return *table;
  }
  tables_.push_back(std::make_unique<RopeTable>(rope_table(rope, positions, Device::cuda)));
  return *tables_.back();
}

const Tensor& RopeTables::of(const std::vector<int64_t>& positions) {
  if (!positions_.defined()) positions_ = as_i32(positions).to(Device::cuda);
  return positions_;
}

Tensor positions_on_gpu(const std::vector<int64_t>& positions) {
  return steady_tables ? steady_tables->of(positions) : as_i32(positions).to(Device::cuda);
}

}  // namespace supra
