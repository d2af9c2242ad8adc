#pragma once
#include <memory>

#include "kernels/rope.h"
#include "tensor/scoped.h"

namespace supra {

// Tables that stay where they are while positions change, for a step that is recorded: in its scope rope() of
// (B,1,H,K) on the GPU reads its angles from here and window_step() its positions, whatever they are given.
class RopeTables {
 public:
  // (B): where the steps to come stand
  void move_to(const std::vector<int64_t>& first);
  // The table there is, or else one of these positions; these themselves. On the GPU.
  const RopeTable& of(const Rope& rope, const std::vector<int64_t>& positions);
  const Tensor& of(const std::vector<int64_t>& positions);

  struct Scope : Scoped<RopeTables*> {
    explicit Scope(RopeTables& tables);
  };
  static RopeTables* in_scope();  // of this thread; null: none

 private:
  std::vector<std::unique_ptr<RopeTable>> tables_;
  Tensor positions_;
};

// (B) i32 on the GPU: those of the scope, if there is one, else these.
Tensor positions_on_gpu(const std::vector<int64_t>& positions);

}  // namespace supra
