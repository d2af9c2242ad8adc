#pragma once
#include <memory>

#include "kernels/rope.h"
#include "tensor/scoped.h"

namespace supra {

// Tables at fixed addresses whose positions change, for a recorded step. Inside its scope, rope() of (B,1,H,K) on
// the GPU reads its angles from here, and window_step() its positions, regardless of their arguments.
class RopeTables {
 public:
  // (B): the positions of the next steps
  void move_to(const std::vector<int64_t>& first);
  // The existing table, or a new one for these positions; the positions themselves. On the GPU.
  const RopeTable& of(const Rope& rope, const std::vector<int64_t>& positions);
  const Tensor& of(const std::vector<int64_t>& positions);

  struct Scope : Scoped<RopeTables*> {
    explicit Scope(RopeTables& tables);
  };
  static RopeTables* in_scope();  // the scope of this thread; null: none

 private:
  std::vector<std::unique_ptr<RopeTable>> tables_;
  Tensor positions_;
};

// (B) i32 on the GPU: the positions of the scope if there is one, otherwise these.
Tensor positions_on_gpu(const std::vector<int64_t>& positions);

}  // namespace supra
