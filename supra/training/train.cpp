#include "supra/training/train.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "supra/state_file.h"
#include "supra/training/checkpoint.h"

namespace supra {

TrainOptions resolve(TrainOptions o, Decoder& decoder) {
  const Config& config = decoder.config();
  if (o.sequence == 0) o.sequence = std::min<int64_t>(config.context > 0 ? config.context : 512, 512);
  if (o.batch_tokens == 0) o.batch_tokens = 4 * o.sequence * o.accumulate;
  if (o.recipe.lr == 0) o.recipe.lr = default_lr(o.recipe.kind, decoder);
  if (o.recipe.transfer_lr == 0) o.recipe.transfer_lr = default_transfer_lr(decoder);
  CHECK(o.tokens > 0, "training: tokens is %ld (say how many to train on, 3M for example)", static_cast<long>(o.tokens));
  CHECK(o.sequence >= 2, "training: sequence length %ld, at least 2 is needed", static_cast<long>(o.sequence));
  CHECK(o.accumulate >= 1 && o.batch_tokens % (o.sequence * o.accumulate) == 0 && o.batch_tokens > 0,
        "training: a batch of %ld tokens does not divide into %ld parts of whole sequences of %ld (choose a multiple of %ld)",
        static_cast<long>(o.batch_tokens), static_cast<long>(o.accumulate), static_cast<long>(o.sequence),
        static_cast<long>(o.sequence * std::max<int64_t>(1, o.accumulate)));
  if (config.lora.rank > 0) {
    const std::vector<std::string> adapted = {".lora_", "_totrain_"};
    CHECK(o.only.empty() || o.only == adapted, "training: of a model with low-rank factors these and what is new are trained (leave --only away, --lora-on says where they are)");
    o.only = adapted;
  }
  for (int64_t i = 0; o.packing == Packing::carried && i < decoder.layers(); i++) {
    CHECK(decoder.mixer(i).kind() != MixerKind::softmax,
          "training: --pack carried needs a state of fixed size, layer %ld keeps its softmax (use --pack documents)", static_cast<long>(i));
  }
  if (o.validate_every == 0) o.validate_every = std::max<int64_t>(1, o.tokens / 5);
  return o;
}

int64_t step_count(const TrainOptions& o) { return std::max<int64_t>(1, o.tokens / o.batch_tokens); }

bool trains(const TrainOptions& o, const std::string& name) {
  return (o.only.empty() || name_matches(name, o.only)) && !name_matches(name, o.freeze);
}

std::vector<int64_t> stage_ends(const Recipe& recipe, int64_t steps) {
  std::vector<int64_t> ends;
  double share = 0;
  for (const Stage& stage : recipe.stages) {
    share += stage.share;
    ends.push_back(std::min(steps, static_cast<int64_t>(std::llround(share * static_cast<double>(steps)))));
  }
  ends.back() = steps;
  return ends;
}

// Rows [begin, end) of a batch.
static Batch rows_of(const Batch& batch, int64_t begin, int64_t end) {
  Batch part{batch.tokens.rows(begin, end), batch.targets.rows(begin, end), {}, {}, {}, 0, batch.first_row + begin};
  if (!batch.cuts.empty()) part.cuts.assign(batch.cuts.begin() + begin, batch.cuts.begin() + end);
  if (!batch.lengths.empty()) part.lengths.assign(batch.lengths.begin() + begin, batch.lengths.begin() + end);
  if (!batch.goes_on.empty()) part.goes_on.assign(batch.goes_on.begin() + begin, batch.goes_on.begin() + end);
  return part;
}

static double targets_of(const Batch& batch) {
  const int32_t* target = batch.targets.data<int32_t>();
  return static_cast<double>(batch.targets.numel() - std::count(target, target + batch.targets.numel(), kIgnore));
}

Tensor accumulate_gradients(const Stage& stage, const Batch& batch, std::vector<Memory>& memories) {
  const int64_t parts = static_cast<int64_t>(memories.size()), rows = batch.tokens.dim(0) / parts;
  const double targets = targets_of(batch);
  Tensor loss;
  for (int64_t i = 0; i < parts; i++) {
    const Batch part = rows_of(batch, i * rows, (i + 1) * rows);
    const double weight = targets_of(part) / targets;
    Memory& memory = memories[i];
    const Tensor share = scale(Var(stage.learn(part, weight, memory)), weight).value();
    if (loss.defined()) add_into(loss, share);
    else loss = share;
    memory = {memory.student.detach(), memory.teacher.detach()};
  }
  return loss;
}

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// One run of train(): what its steps share.
class Run {
 public:
  Run(Model& model, const Decoder* teacher, const Corpus& corpus, const TrainOptions& o, const Path& directory, const TrainHooks& hooks)
      : model_(model),
        o_(resolve(o, *model.decoder)),
        directory_(directory),
        hooks_(hooks),
        teacher_(teacher),
        recipe_(make_recipe(*model.decoder, teacher, o_.recipe)),
        memories_(o_.accumulate),
        loader_(corpus, o_.batch_tokens / o_.sequence, o_.sequence, o_.seed, o_.packing),
        steps_(step_count(o_)),
        ends_(stage_ends(recipe_, steps_)),
        start_(Clock::now()),
        lock_((make_directories(directory), directory / ".lock")) {
    model.decoder->set_recompute(o_.recompute);
    state_.seed = o_.seed;
    state_.made_by = o_.made_by;
    state_.batch_tokens = o_.batch_tokens;
    state_.sequence = o_.sequence;
    state_.corpus_tokens = corpus.tokens();
    state_.packing = name_of(o_.packing);
  }

  TrainResult go() {
    if (o_.resume) {
      resume();
    } else {
      // higher steps of an older run would pass for the newest of this one
      remove_checkpoints(directory_);
      prepare();
      begin_stage(0);
    }
    if (hooks_.on_start) hooks_.on_start(state_.step);
    while (batches() < steps_ && !result_.interrupted) {
      if (hooks_.should_stop && hooks_.should_stop()) {
        result_.interrupted = true;
        save();
        break;
      }
      step();
    }
    if (!result_.interrupted) {
      save();
      publish();
    }
    result_.steps = state_.step;
    result_.tokens = state_.tokens;
    if (tail_steps_ > 0) result_.loss = tail_ / static_cast<double>(tail_steps_);
    result_.seconds = seconds();
    return result_;
  }

 private:
  // Of this size, that the tokens so far are: the step, unless a run goes on with larger or smaller batches.
  int64_t batches() const { return state_.tokens / o_.batch_tokens; }
  // The first of a stage.
  int64_t first_batch(size_t stage) const { return stage == 0 ? 0 : ends_[stage - 1]; }
  const Stage& stage() const { return recipe_.stages[state_.stage]; }
  double seconds() const { return spent_before_ + seconds_since(start_); }
  void note(const std::string& line) const {
    if (hooks_.on_note) hooks_.on_note(line);
  }

  void prepare() {
    if (!recipe_.prepare) return;
    // of a stream of its own: training reads its data from the beginning
    std::vector<Batch> batches;
    for (int64_t tokens = 0; tokens < o_.recipe.calibrate_tokens; tokens += o_.batch_tokens) batches.push_back(loader_.next());
    loader_.seek(0);
    recipe_.prepare(batches);
    note(format("calibrated on %ld tokens", static_cast<long>(loader_tokens(batches))));
  }

  static int64_t loader_tokens(const std::vector<Batch>& batches) {
    int64_t tokens = 0;
    for (const Batch& batch : batches) tokens += batch.tokens.numel();
    return tokens;
  }

  // The factors of a LoRA belong to its training alone: they are merged first.
  void publish() {
    if (!model_.decoder->merge_lora()) return publish_checkpoint(result_.checkpoint, directory_);
    const NewDirectory merged(directory_ / "merged");
    write_model(model_, merged.path());
    publish_checkpoint(merged.path(), directory_);
  }

  // A new optimizer over the parameters of this stage; the others ask for no gradient.
  void make_optimizer() {
    std::vector<Trained> trained;
    model_.decoder->visit([&](const std::string& name, Var& parameter) {
      const bool trains_it = (!stage().trains || stage().trains(name)) && trains(o_, name);
      parameter = Var(parameter.value(), trains_it);
      if (!trains_it) return;
      const bool matrix = parameter.shape().size() == 2, is_new = name.find("_totrain_") != std::string::npos;
      trained.push_back({name, parameter, is_new ? o_.new_lr : 1, matrix || o_.decay_vectors});
    });
    CHECK(!trained.empty(), "training: stage %s trains no parameter (see --only and --freeze)", stage().name.c_str());
    optimizer_.emplace(std::move(trained), o_.adamw);
  }

  void begin_stage(size_t index) {
    state_.stage = static_cast<int64_t>(index);
    state_.stage_begin = state_.step;
    memories_.assign(memories_.size(), {});
    state_.stage_steps = 0;
    state_.mean_loss = state_.mean_norm = 0;
    make_optimizer();
    if (!hooks_.validate) return;
    state_.stage_nll = validate();
    note(format("stage %s begins at %.4f nats a token", stage().name.c_str(), state_.stage_nll));
    state_.valid_nll = state_.stage_nll;
    stage_start_ = save();
  }

  // Takes back what a stage made worse.
  void end_stage(double valid_nll) {
    if (!hooks_.validate || valid_nll <= state_.stage_nll) return;
    note(format("stage %s ended at %.4f, worse than it began: its weights are dropped (try a smaller learning rate)",
                stage().name.c_str(), valid_nll));
    load_weights(stage_start_, *model_.decoder);
    result_.valid_nll = state_.valid_nll = state_.stage_nll;
  }

  Path save() {
    state_.seconds = seconds();
    result_.checkpoint = save_checkpoint(directory_, model_, *optimizer_, state_, static_cast<int>(o_.keep), memory_tensors());
    note("saved " + result_.checkpoint.string());
    return result_.checkpoint;
  }

  double validate() {
    const auto before = Clock::now();
    const double nll = hooks_.validate();
    validation_seconds_ += seconds_since(before);
    validations_++;
    return result_.valid_nll = nll;
  }

  bool crossed(int64_t every) const {
    return every > 0 && state_.tokens / every != (state_.tokens - o_.batch_tokens) / every;
  }

  // What the first batches cost, in forward passes of one.
  double work_of(int64_t batches) const {
    double work = 0;
    for (size_t i = 0; i < ends_.size(); i++) {
      work += static_cast<double>(std::clamp(batches, first_batch(i), ends_[i]) - first_batch(i)) * recipe_.stages[i].cost;
    }
    return work;
  }

  double seconds_left() const {
    const double done = work_of(batches()), speed = (done - work_before_) / (seconds_since(start_) - validation_seconds_);
    double left = (work_of(steps_) - done) / speed;
    if (validations_ > 0) {
      const double to_come = static_cast<double>(o_.tokens - state_.tokens) / static_cast<double>(o_.validate_every);
      left += std::ceil(to_come) * validation_seconds_ / static_cast<double>(validations_);
    }
    return left;
  }

  NamedTensors memory_tensors() const;
  void restore_memory(const Path& checkpoint);
  void resume();
  void step();
  void check_finite(double loss, double norm) const;
  bool is_outlier(double loss, double norm);

  Model& model_;
  const TrainOptions o_;
  const Path directory_;
  const TrainHooks& hooks_;
  const Decoder* teacher_;
  Recipe recipe_;
  std::vector<Memory> memories_;  // one a part of the batch
  BatchLoader loader_;
  const int64_t steps_;
  const std::vector<int64_t> ends_;  // the batch at which each stage ends
  double work_before_ = 0;
  int64_t validations_ = 0;
  std::optional<Optimizer> optimizer_;
  TrainingState state_;
  Path stage_start_;
  TrainResult result_;
  const Clock::time_point start_;
  const FileLock lock_;
  double spent_before_ = 0, validation_seconds_ = 0, tail_ = 0;
  int64_t tokens_before_ = 0, tail_steps_ = 0;
};

static std::string part_prefix(size_t part, const char* whose) { return format("part%zu.%s.", part, whose); }

NamedTensors Run::memory_tensors() const {
  NamedTensors tensors;
  for (size_t i = 0; i < memories_.size(); i++) {
    const auto add = [&](const char* whose, const State& state) {
      if (state.batch() == 0) return;
      const NamedTensors part = state_tensors(state, part_prefix(i, whose));
      tensors.insert(tensors.end(), part.begin(), part.end());
    };
    add("student", memories_[i].student);
    add("teacher", memories_[i].teacher);
  }
  return tensors;
}

void Run::restore_memory(const Path& checkpoint) {
  const auto file = open_memory(checkpoint);
  if (!file) return;
  const int64_t rows = o_.batch_tokens / o_.sequence / o_.accumulate;
  const auto has = [&](size_t part) { return file->find(part_prefix(part, "student") + "positions") != nullptr; };
  CHECK(has(memories_.size() - 1) && !has(memories_.size()),
        "%s: what its carried rows remember stands in another number of parts than %zu (give the same --accumulate)",
        file->path().c_str(), memories_.size());
  for (size_t i = 0; i < memories_.size(); i++) {
    const auto restore = [&](const char* whose, const Decoder* decoder, State& into) {
      const std::string prefix = part_prefix(i, whose);
      if (file->find(prefix + "positions")) into = read_state(*file, *decoder, rows, prefix);
    };
    restore("student", model_.decoder.get(), memories_[i].student);
    restore("teacher", teacher_, memories_[i].teacher);
  }
}

void Run::resume() {
  const std::optional<Path> last = latest_checkpoint(directory_);
  CHECK(last, "%s: there is no checkpoint to resume from (run it without --resume)", directory_.c_str());
  const TrainingState saved = read_training_state(*last);
  const auto agree = [&](const char* what, uint64_t then, uint64_t now, const char* advice) {
    CHECK(then == now, "%s: was made with %s %lu, this run has %lu (%s)", last->c_str(), what, then, now, advice);
  };
  agree("--seed", saved.seed, state_.seed, "give the same");
  agree("--seq-len", static_cast<uint64_t>(saved.sequence), static_cast<uint64_t>(state_.sequence), "give the same");
  agree("tokens of text", static_cast<uint64_t>(saved.corpus_tokens), static_cast<uint64_t>(state_.corpus_tokens),
        "give the same --data and --docs");
  CHECK(saved.stage < static_cast<int64_t>(recipe_.stages.size()), "%s: is in stage %ld, this recipe has %zu (give the same --recipe)",
        last->c_str(), static_cast<long>(saved.stage), recipe_.stages.size());
  CHECK(saved.tokens < o_.tokens + o_.batch_tokens, "%s: has been trained on %ld tokens, --tokens asks for %ld in all (give more --tokens)",
        last->c_str(), static_cast<long>(saved.tokens), static_cast<long>(o_.tokens));
  CHECK(saved.packing == state_.packing, "%s: was made with --pack %s, this run has %s (give the same)", last->c_str(),
        saved.packing.c_str(), state_.packing.c_str());
  const bool other_batches = saved.batch_tokens != o_.batch_tokens;
  CHECK(!other_batches || o_.packing != Packing::carried,
        "%s: was made with --batch-tokens %ld, this run has %ld: rows that are carried cannot become more or fewer (give the same)",
        last->c_str(), static_cast<long>(saved.batch_tokens), static_cast<long>(o_.batch_tokens));
  state_ = saved;
  if (other_batches) state_.made_by += format("; from step %ld on: ", static_cast<long>(saved.step)) + o_.made_by;
  state_.batch_tokens = o_.batch_tokens;
  make_optimizer();
  load_checkpoint(*last, model_, *optimizer_);
  restore_memory(*last);
  stage_start_ = checkpoint_path(directory_, saved.stage_begin);
  spent_before_ = saved.seconds;
  tokens_before_ = saved.tokens;
  work_before_ = work_of(batches());
  loader_.seek(saved.position);
  result_.checkpoint = *last;
  note(format("resumed from %s, step %ld of %ld", last->c_str(), static_cast<long>(saved.step), static_cast<long>(saved.step + steps_ - batches())));
  if (!other_batches) return;
  note(format("batches of %ld tokens from here on, %ld before: %ld steps are left; the learning rate goes on from where it was, "
              "and is not adapted to the batch (see --lr)",
              static_cast<long>(o_.batch_tokens), static_cast<long>(saved.batch_tokens), static_cast<long>(steps_ - batches())));
}

void Run::check_finite(double loss, double norm) const {
  if (std::isfinite(loss) && std::isfinite(norm)) return;
  const std::string where = optimizer_->not_finite();
  fail("training: step %ld of stage %s has loss %g and gradient norm %g, first in %s (%s; try a smaller learning rate, it is %g)",
       static_cast<long>(state_.step + 1), stage().name.c_str(), loss, norm, where.empty() ? "the loss" : where.c_str(),
       result_.checkpoint.empty() ? "nothing was saved yet" : ("last saved: " + result_.checkpoint.string()).c_str(), stage().lr);
}

bool Run::is_outlier(double loss, double norm) {
  // a mean over about the last fifty steps, once there are twenty
  constexpr double kPart = 0.02;
  constexpr int64_t kFirst = 20;
  const bool outlier = o_.outliers > 0 && state_.stage_steps >= kFirst &&
                       (loss > o_.outliers * state_.mean_loss || norm > o_.outliers * state_.mean_norm);
  if (outlier) {
    note(format("step %ld is an outlier: loss %.3f (mean %.3f), gradient norm %.2f (mean %.2f)%s", static_cast<long>(state_.step + 1),
                loss, state_.mean_loss, norm, state_.mean_norm, o_.skip_outliers ? "; skipped" : ""));
  } else {
    const double part = std::max(kPart, 1 / static_cast<double>(state_.stage_steps + 1));
    state_.mean_loss += part * (loss - state_.mean_loss);
    state_.mean_norm += part * (norm - state_.mean_norm);
  }
  return outlier;
}

void Run::step() {
  const size_t index = static_cast<size_t>(state_.stage);
  const int64_t first = first_batch(index), count = ends_[index] - first, warmup = std::max<int64_t>(1, std::llround(o_.warmup * static_cast<double>(count)));
  const Schedule schedule{o_.schedule, stage().lr, o_.min_lr < 0 ? 0.1 * stage().lr : o_.min_lr, warmup, count};

  TrainStep shown;
  shown.stage = stage().name;
  shown.lr = schedule.at(std::max<int64_t>(0, batches() - first));
  const Tensor loss = accumulate_gradients(stage(), loader_.next(), memories_);
  if (state_.step == state_.stage_begin) {
    const std::vector<std::string> missed = optimizer_->without_gradient();
    result_.without_gradient.insert(result_.without_gradient.end(), missed.begin(), missed.end());
  }
  // a GPU is waited for here, once a step
  shown.grad_norm = optimizer_->gradient_norm();
  shown.loss = loss.item();
  check_finite(shown.loss, shown.grad_norm);
  if (is_outlier(shown.loss, shown.grad_norm) && o_.skip_outliers) {
    optimizer_->clear_gradients();
  } else {
    optimizer_->step(shown.lr, o_.clip, shown.grad_norm);
    state_.stage_steps++;
  }
  state_.step++;
  state_.tokens += o_.batch_tokens;
  state_.position = loader_.position();

  const bool done = batches() >= steps_, stage_done = batches() >= ends_[index];
  if (hooks_.validate && (stage_done || crossed(o_.validate_every))) shown.valid_nll = validate();
  state_.valid_nll = shown.valid_nll;
  if (batches() > steps_ - std::max<int64_t>(1, steps_ / 20)) {
    tail_ += shown.loss;
    tail_steps_++;
  }
  shown.step = state_.step;
  shown.steps = state_.step + std::max<int64_t>(0, steps_ - batches());
  shown.tokens = state_.tokens;
  shown.seconds = seconds();
  shown.tokens_per_second = static_cast<double>(state_.tokens - tokens_before_) / (seconds_since(start_) - validation_seconds_);
  shown.seconds_left = seconds_left();
  if (hooks_.on_step) hooks_.on_step(shown);
  result_.loss = shown.loss;
  result_.tokens_per_second = shown.tokens_per_second;
  if (stage_done) end_stage(shown.valid_nll);
  if (stage_done && !done) begin_stage(index + 1);
  else if (!done && crossed(o_.checkpoint_every)) save();
}

}  // namespace

TrainResult train(Model& model, const Decoder* teacher, const Corpus& corpus, const TrainOptions& options,
                  const Path& directory, const TrainHooks& hooks) {
  return Run(model, teacher, corpus, options, directory, hooks).go();
}

}  // namespace supra
