#pragma once
#include <memory>

#include "kernels/rope.h"
#include "tensor/scoped.h"

namespace supra {

// Tables of angles at fixed addresses, for a recorded step: a graph always reads the same addresses, and the tables change with
// the positions. Inside a scope, rope() of (B,1,H,K) on the GPU reads its angles from here, and window_step() its positions,
// regardless of their arguments.
class RopeTables {
 public:
  // (B): the positions of the next steps
  void move_to(const std::vector<int64_t>& first);
  // On the GPU: the table of `rope`, which is new if there was none, for these positions; the positions themselves.
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
