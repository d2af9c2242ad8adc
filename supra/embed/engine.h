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

// What supra.h calls an engine: a model, whose memory it takes, and the threads that compute for it. Any
// number of threads may use one.
class Engine {
 public:
  // `read` gives the model. `memory` outlives the engine and all it gave. Throws Error for a model that is
  // not recurrent throughout, OutOfMemory where threads cannot be started.
  Engine(const Memory& memory, int threads, std::function<void(double done)> progress,
         const std::function<Model()>& read);

  const Decoder& decoder() const { return *model_.decoder; }
  int64_t vocabulary() const { return model_.config().vocab; }
  const Tokenizer* tokenizer() const { return model_.tokenizer.get(); }  // null where there is none
  const Tokenizer& needed_tokenizer() const {
    return tokenizer_of(model_);
  }  // throws Error where there is none
  // Null where the model has no chat template, or none of a known form.
  const ChatTemplate* chat() const { return chat_ ? &*chat_ : nullptr; }
  // Whether a text or an answer ends where the model chooses this id.
  bool is_end(int32_t id) const;
  const Fingerprint& fingerprint() const { return model_.fingerprint; }
  // What softmax layers in place of this model's would keep of each id.
  size_t cache_bytes() const {
    const Config& c = model_.config();
    return static_cast<size_t>(c.layers * c.kv_heads * (c.head_dim + c.value_dim)) * size_of(c.state_dtype);
  }
  // What a layer remembers of a sequence, part by part; together fingerprint().floats, the last one filled up.
  struct StatePart {
    Shape shape;  // (1,...)
    Dtype dtype;
    size_t bytes;
    bool is_ring;  // (1,slots,...), of a window layer
  };
  const std::vector<std::vector<StatePart>>& state_parts() const { return state_parts_; }
  // Told what part of a long call is done; throws to end it.
  const std::function<void(double done)>& progress() const { return progress_; }

 private:
  friend class EngineCall;
  // What kernels keep for the one thread that sits here.
  struct Desk {
    Kept kept;
    std::unique_ptr<Desk> next;
  };
  std::unique_ptr<Desk> take_desk() const;
  void give_back(std::unique_ptr<Desk> desk) const;

  const Memory& memory_;
  std::function<void(double)> progress_;
  std::shared_ptr<Pool> pool_;
  Model model_;
  std::optional<ChatTemplate> chat_;
  int32_t answer_end_ = -1;  // the mark that ends an answer in the chat template
  std::vector<std::vector<StatePart>> state_parts_;
  mutable std::mutex mutex_;
  mutable std::unique_ptr<Desk> free_desks_;
};

// While it lives, the calling thread works for an engine: with its memory, its threads and what was kept for
// it, and rounds as we do.
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
  std::unique_ptr<Engine::Desk> desk_;
  UseKept kept_;
};

}  // namespace supra
