#pragma once
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include "supra/embed/state_blob.h"
#include "supra/model.h"
#include "supra/tokenizers/chat_template.h"
#include "tensor/kept.h"
#include "tensor/memory.h"
#include "tensor/parallel.h"

namespace supra {

// The engine of supra.h: a model, the allocator of its memory, and the threads that compute for it. Any number
// of threads may use one engine.
class Engine {
 public:
  // `read` returns the model. `memory` must outlive the engine and everything it allocated. Throws Error if a
  // layer of the model is not recurrent, OutOfMemory if threads cannot be started.
  Engine(const Memory& memory, int threads, std::function<void(double done)> progress,
         const std::function<Model()>& read);

  const Decoder& decoder() const { return *model_.decoder; }
  int64_t vocabulary() const { return model_.config().vocab; }
  const Tokenizer* tokenizer() const { return model_.tokenizer.get(); }  // null if there is none
  const Tokenizer& needed_tokenizer() const {
    return tokenizer_of(model_);
  }  // throws Error if there is none
  // Null if the model has no chat template, or one of an unknown form.
  const ChatTemplate* chat() const { return chat_ ? &*chat_ : nullptr; }
  // Whether a text or an answer ends where the model chooses this id.
  bool is_end(int32_t id) const;
  const Fingerprint& fingerprint() const { return model_.fingerprint; }
  // The bytes per id that softmax layers instead of this model's would store.
  size_t cache_bytes() const {
    const Config& c = model_.config();
    return static_cast<size_t>(c.layers * c.kv_heads * (c.head_dim + c.value_dim)) * size_of(c.state_dtype);
  }
  // The parts of a layer's state of a sequence; together fingerprint().floats, the last one padded.
  struct StatePart {
    Shape shape;  // (1,...)
    Dtype dtype;
    size_t bytes;
    bool is_ring;  // (1,slots,...), in a window layer
  };
  const std::vector<std::vector<StatePart>>& state_parts() const { return state_parts_; }
  // Called with the finished part of a long call; throws to cancel the call.
  const std::function<void(double done)>& progress() const { return progress_; }

 private:
  friend class EngineCall;
  // A workspace: what kernels keep between calls for the one thread that uses it.
  struct Workspace {
    Kept kept;
    std::unique_ptr<Workspace> next;
  };
  std::unique_ptr<Workspace> take_workspace() const;
  void give_back(std::unique_ptr<Workspace> workspace) const;

  const Memory& memory_;
  std::function<void(double)> progress_;
  std::shared_ptr<Pool> pool_;
  Model model_;
  std::optional<ChatTemplate> chat_;
  int32_t answer_end_ = -1;  // the mark that ends an answer in the chat template
  std::vector<std::vector<StatePart>> state_parts_;
  mutable std::mutex mutex_;
  mutable std::unique_ptr<Workspace> free_workspaces_;
};

// While this object lives, the calling thread works for an engine: with its allocator, threads and workspace, and
// with this library's rounding mode.
class EngineCall {
 public:
  explicit EngineCall(const Engine& engine);
  ~EngineCall();
  EngineCall(const EngineCall&) = delete;
  EngineCall& operator=(const EngineCall&) = delete;

 private:
  const Engine& engine_;
  UseMemory memory_;
  UsePool pool_;
  OurRounding rounding_;
  std::unique_ptr<Engine::Workspace> workspace_;
  UseKept kept_;
};

}  // namespace supra
