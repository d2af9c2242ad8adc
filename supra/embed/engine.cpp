#include "supra/embed/engine.h"

#include <system_error>

#include "kernels/simd.h"

namespace supra {

static std::shared_ptr<Pool> start_threads(int threads) {
  // threads inherit the rounding mode
  const OurRounding rounding;
  try {
    return make_pool(threads);
  } catch (const std::system_error& error) {
    throw OutOfMemory(format("threads: cannot start %d: %s", threads - 1, error.what()));
  }
}

Engine::Engine(const Memory& memory, int threads, std::function<void(double)> progress,
               const std::function<Model()>& read)
    : memory_(memory), progress_(std::move(progress)), pool_(start_threads(threads)) {
  const UsePool pool(*pool_);
  const OurRounding rounding;
  Workspace workspace;
  const UseKept kept(workspace.kept);
  model_ = read();
  check_recurrent(model_.config(), "model");
  // throws now if SUPRA_CPU is wrong
  simd();
  for (const LayerState& layer : decoder().init_state(1).layers) {
    const bool has_ring = decoder().mixer(static_cast<int64_t>(state_parts_.size())).kind() == MixerKind::window;
    std::vector<StatePart>& parts = state_parts_.emplace_back();
    for (const Var& part : layer.parts)
      parts.push_back({part.shape(), part.dtype(), part.value().bytes(), has_ring && parts.size() < 2});
  }
  if (!tokenizer() || tokenizer()->chat_template().empty()) return;
  try {
    chat_ = chat_template_of(tokenizer()->chat_template());
    answer_end_ = chat_->end_id(*tokenizer());
  } catch (const OutOfMemory&) {
    throw;
  } catch (const Error&) {
    // an unknown form: the host may still write the text of a chat itself
  }
}

bool Engine::is_end(int32_t id) const {
  return id >= 0 && tokenizer() && (id == answer_end_ || tokenizer()->is_end(id));
}

std::unique_ptr<Engine::Workspace> Engine::take_workspace() const {
  {
    const std::lock_guard lock(mutex_);
    if (free_workspaces_) {
      std::unique_ptr<Workspace> workspace = std::move(free_workspaces_);
      free_workspaces_ = std::move(workspace->next);
      return workspace;
    }
  }
  return std::make_unique<Workspace>();
}

void Engine::give_back(std::unique_ptr<Workspace> workspace) const {
  const std::lock_guard lock(mutex_);
  workspace->next = std::move(free_workspaces_);
  free_workspaces_ = std::move(workspace);
}

EngineCall::EngineCall(const Engine& engine)
    : engine_(engine),
      memory_(&engine.memory_),
      pool_(*engine.pool_),
      workspace_(engine.take_workspace()),
      kept_(workspace_->kept) {}

EngineCall::~EngineCall() { engine_.give_back(std::move(workspace_)); }

}  // namespace supra
