#include "supra/training/train.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "supra/training/checkpoint.h"

namespace supra {

double default_lr(int64_t parameters) {
  if (parameters > 3'000'000'000) return 3e-5;
  return std::clamp(3e-3 * std::sqrt(260e3 / static_cast<double>(parameters)), 3e-4, 3e-3);
}

TrainOptions resolve(TrainOptions o, Decoder& decoder) {
  const Config& config = decoder.config();
  if (o.sequence == 0) o.sequence = std::min<int64_t>(config.context > 0 ? config.context : 512, 512);
  if (o.batch_tokens == 0) o.batch_tokens = 4 * o.sequence * o.accumulate;
  if (o.lr == 0) o.lr = default_lr(decoder.parameter_count());
  if (o.min_lr < 0) o.min_lr = o.lr / 10;
  CHECK(o.tokens > 0, "training: tokens is %ld (say how many to train on, 3M for example)", static_cast<long>(o.tokens));
  CHECK(o.sequence >= 2, "training: sequence length %ld, at least 2 is needed", static_cast<long>(o.sequence));
  CHECK(o.accumulate >= 1 && o.batch_tokens % (o.sequence * o.accumulate) == 0 && o.batch_tokens > 0,
        "training: a batch of %ld tokens does not divide into %ld parts of whole sequences of %ld (choose a multiple of %ld)",
        static_cast<long>(o.batch_tokens), static_cast<long>(o.accumulate), static_cast<long>(o.sequence),
        static_cast<long>(o.sequence * std::max<int64_t>(1, o.accumulate)));
  if (o.warmup < 0) o.warmup = std::max<int64_t>(1, step_count(o) / 20);
  if (o.validate_every == 0) o.validate_every = std::max<int64_t>(1, o.tokens / 5);
  return o;
}

int64_t step_count(const TrainOptions& o) { return std::max<int64_t>(1, o.tokens / o.batch_tokens); }

static double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double accumulate_gradients(const Decoder& decoder, BatchLoader& loader, const TrainOptions& o) {
  double loss = 0;
  for (int64_t part = 0; part < o.accumulate; part++) {
    const Batch batch = loader.next();
    const Var mean = decoder.loss(decoder.hidden(batch.tokens), batch.targets, o.z_loss);
    loss += mean.value().item() / static_cast<double>(o.accumulate);
    backward(mean);
  }
  return loss;
}

// Reads the newest checkpoint; `state` says what this run is, and becomes what the checkpoint says.
static Path resume(const Path& directory, Model& model, Adamw& optimizer, TrainingState& state, int64_t steps) {
  const std::optional<Path> last = latest_checkpoint(directory);
  CHECK(last, "%s: there is no checkpoint to resume from (run it without --resume)", directory.c_str());
  const TrainingState saved = load_checkpoint(*last, model, optimizer);
  const auto agree = [&](const char* what, uint64_t then, uint64_t now, const char* advice) {
    CHECK(then == now, "%s: was made with %s %lu, this run has %lu (%s)", last->c_str(), what, then, now, advice);
  };
  agree("--seed", saved.seed, state.seed, "give the same");
  agree("--batch-tokens", static_cast<uint64_t>(saved.batch_tokens), static_cast<uint64_t>(state.batch_tokens), "give the same");
  agree("--seq-len", static_cast<uint64_t>(saved.sequence), static_cast<uint64_t>(state.sequence), "give the same");
  agree("tokens of text", static_cast<uint64_t>(saved.corpus_tokens), static_cast<uint64_t>(state.corpus_tokens),
        "give the same --data and --docs");
  CHECK(saved.step <= steps, "%s: is %ld steps in, these --tokens are only %ld steps (give more --tokens)", last->c_str(),
        static_cast<long>(saved.step), static_cast<long>(steps));
  state = saved;
  return *last;
}

TrainResult train(Model& model, const Corpus& corpus, const TrainOptions& options, const Path& directory,
                  const TrainHooks& hooks) {
  Decoder& decoder = *model.decoder;
  const TrainOptions o = resolve(options, decoder);
  const auto note = [&](const std::string& line) { if (hooks.on_note) hooks.on_note(line); };

  std::vector<std::pair<std::string, Var>> parameters;
  decoder.visit([&](const std::string& name, Var& parameter) { parameters.emplace_back(name, parameter); });
  Adamw optimizer(parameters, o.adamw);
  BatchLoader loader(corpus, o.batch_tokens / o.sequence / o.accumulate, o.sequence, o.seed);
  const int64_t steps = step_count(o);
  const Schedule schedule{o.schedule, o.lr, o.min_lr, o.warmup, steps};

  TrainResult result;
  TrainingState state;
  state.seed = o.seed;
  state.batch_tokens = o.batch_tokens;
  state.sequence = o.sequence;
  state.corpus_tokens = corpus.tokens();
  if (o.resume) {
    result.checkpoint = resume(directory, model, optimizer, state, steps);
    loader.seek(state.position);
    note(format("resumed from %s, step %ld of %ld", result.checkpoint.c_str(), static_cast<long>(state.step), static_cast<long>(steps)));
  } else {
    // higher steps of an older run would pass for the newest of this one
    std::filesystem::remove_all(directory / "checkpoints");
  }

  const auto start = std::chrono::steady_clock::now();
  const double spent_before = state.seconds;
  const int64_t tokens_before = state.tokens;
  double validation_seconds = 0, tail = 0;
  int64_t tail_steps = 0;
  const auto save = [&] {
    state.seconds = spent_before + seconds_since(start);
    result.checkpoint = save_checkpoint(directory, model, optimizer, state);
    note("saved " + result.checkpoint.string());
  };
  const auto validate = [&] {
    const auto before = std::chrono::steady_clock::now();
    const double nll = hooks.validate();
    validation_seconds += seconds_since(before);
    return nll;
  };
  const auto crossed = [&](int64_t every) {
    return every > 0 && state.tokens / every != (state.tokens - o.batch_tokens) / every;
  };

  while (state.step < steps) {
    if (hooks.should_stop && hooks.should_stop()) {
      result.interrupted = true;
      save();
      break;
    }
    TrainStep shown;
    shown.lr = schedule.at(state.step);
    shown.loss = accumulate_gradients(decoder, loader, o);
    if (state.step == 0) result.without_gradient = optimizer.without_gradient();
    shown.grad_norm = optimizer.step(shown.lr, o.clip, 1 / static_cast<double>(o.accumulate));
    CHECK(std::isfinite(shown.loss) && std::isfinite(shown.grad_norm),
          "training: step %ld has loss %g and gradient norm %g (%s; try a smaller --lr, it is %g)",
          static_cast<long>(state.step + 1), shown.loss, shown.grad_norm,
          result.checkpoint.empty() ? "nothing was saved yet" : ("last saved: " + result.checkpoint.string()).c_str(), shown.lr);
    state.step++;
    state.tokens += o.batch_tokens;
    state.position = loader.position();

    const bool done = state.step == steps;
    if (hooks.validate && (done || crossed(o.validate_every))) shown.valid_nll = result.valid_nll = validate();
    if (state.step > steps - std::max<int64_t>(1, steps / 20)) {
      tail += shown.loss;
      tail_steps++;
    }
    shown.step = state.step;
    shown.steps = steps;
    shown.tokens = state.tokens;
    shown.seconds = spent_before + seconds_since(start);
    shown.tokens_per_second = static_cast<double>(state.tokens - tokens_before) / (seconds_since(start) - validation_seconds);
    if (hooks.on_step) hooks.on_step(shown);
    result.loss = shown.loss;
    result.tokens_per_second = shown.tokens_per_second;
    if (!done && crossed(o.checkpoint_every)) save();
  }
  if (!result.interrupted) {
    save();
    publish_checkpoint(result.checkpoint, directory);
  }
  result.steps = state.step;
  result.tokens = state.tokens;
  if (tail_steps > 0) result.loss = tail / static_cast<double>(tail_steps);
  result.seconds = spent_before + seconds_since(start);
  return result;
}

}  // namespace supra
