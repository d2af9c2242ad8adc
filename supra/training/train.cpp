#include "supra/training/train.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "supra/training/calibrate.h"
#include "supra/training/checkpoint.h"
#include "supra/training/resume.h"
#include "supra/training/timetable.h"

namespace supra {

// The defaults for distilling a window student. Its layers already compute the teacher's attention within their windows: only
// attention is trained, without calibration and attention transfer, on sequences that are longer than the windows.
static void fit_to_windows(TrainOptions& o, const Config& config) {
  const int64_t longest = *std::max_element(config.windows.begin(), config.windows.end());
  o.recipe.transfer_share = 0;
  o.recipe.calibrate_tokens = 0;
  if (o.only.empty()) o.only = {"*.attention.*"};
  if (o.sequence == 0) o.sequence = std::min(config.context, std::clamp<int64_t>(2 * longest, 1024, 2048));
  if (o.batch_tokens == 0) o.batch_tokens = std::max<int64_t>(1, 2048 / o.sequence) * o.sequence * o.accumulate;
}

TrainOptions resolve(TrainOptions o, Decoder& decoder) {
  const Config& config = decoder.config();
  if (distills(o.recipe.kind) && is_window_student(config)) fit_to_windows(o, config);
  if (o.sequence == 0) o.sequence = std::min<int64_t>(config.context > 0 ? config.context : 512, 512);
  if (o.batch_tokens == 0) o.batch_tokens = 4 * o.sequence * o.accumulate;
  if (o.recipe.lr == 0) o.recipe.lr = default_lr(o.recipe.kind, decoder);
  if (!o.recipe.calibrate_tokens) o.recipe.calibrate_tokens = default_calibration_tokens(config);
  if (o.recipe.transfer_lr == 0) o.recipe.transfer_lr = default_transfer_lr(decoder);
  CHECK(o.tokens > 0, "training: the number of tokens is %ld (give --tokens, for example 3M)", static_cast<long>(o.tokens));
  CHECK(o.sequence >= 2, "training: sequence length %ld, at least 2 is needed", static_cast<long>(o.sequence));
  CHECK(o.accumulate >= 1 && o.batch_tokens % (o.sequence * o.accumulate) == 0 && o.batch_tokens > 0,
        "training: a batch of %ld tokens does not divide into %ld parts of whole sequences of %ld (choose a multiple of %ld)",
        static_cast<long>(o.batch_tokens), static_cast<long>(o.accumulate), static_cast<long>(o.sequence),
        static_cast<long>(o.sequence * std::max<int64_t>(1, o.accumulate)));
  if (config.lora.rank > 0) {
    const std::vector<std::string> adapted = {".lora_", "_totrain_"};
    CHECK(o.only.empty() || o.only == adapted, "training: a model with low-rank factors trains only these and the new weights (remove --only; --lora-on chooses the matrices)");
    o.only = adapted;
  }
  CHECK(o.recipe.kind != RecipeKind::progressive || config.lora.rank == 0,
        "training: recipe progressive replaces layers, and would lose their low-rank factors (remove --lora)");
  for (int64_t i = 0; o.packing == Packing::carried && i < decoder.layers(); i++) {
    CHECK(decoder.mixer(i).kind() != MixerKind::softmax && o.recipe.kind != RecipeKind::progressive,
          "training: --pack carried needs a state of fixed size, layer %ld keeps its softmax (use --pack documents)", static_cast<long>(i));
  }
  CHECK(o.warmup >= 0 && o.warmup <= 1, "training: --warmup %g is a fraction of a stage's steps, from 0 to 1 (for example 0.05)", o.warmup);
  CHECK(o.recipe.transfer_share >= 0 && o.recipe.transfer_share <= 1, "training: --transfer-share %g is a fraction of the tokens, from 0 to 1",
        o.recipe.transfer_share);
  CHECK(o.recipe.kl_weight >= 0 && o.recipe.kl_weight <= 1, "training: --kl-weight %g is a fraction of the loss, from 0 to 1", o.recipe.kl_weight);
  CHECK(o.recipe.kind != RecipeKind::progressive || (o.recipe.convert_share > 0 && o.recipe.convert_share <= 1 && o.recipe.transfer_share < 1),
        "training: --convert-share %g, the fraction of all tokens for making layers recurrent, must be above 0 and at most 1, and --transfer-share %g, the fraction of these "
        "that transfers attention, below 1", o.recipe.convert_share, o.recipe.transfer_share);
  CHECK(o.outliers == 0 || o.outliers > 1,
        "training: --outliers %g is a multiple of the running mean, above 1 (for example 4; 0 turns it off)", o.outliers);
  if (o.validate_every == 0) o.validate_every = std::max<int64_t>(1, o.tokens / 5);
  return o;
}

int64_t step_count(const TrainOptions& o) { return std::max<int64_t>(1, o.tokens / o.batch_tokens); }

bool trains(const TrainOptions& o, const std::string& name) {
  return (o.only.empty() || name_matches(name, o.only)) && !name_matches(name, o.freeze);
}

// The number of positions of a teacher with softmax layers, after which the states of both models are reset; 0: no limit.
static int64_t teachable_steps(const Decoder* teacher, const TrainOptions& o) {
  const int64_t limit = teacher && o.recipe.kind != RecipeKind::supra ? position_limit(teacher->config()) : 0;
  CHECK(limit == 0 || o.sequence <= limit, "training: sequences of %ld tokens, but the teacher has only %ld positions (give --seq-len %ld)",
        static_cast<long>(o.sequence), static_cast<long>(limit), static_cast<long>(limit));
  return limit;
}

Tensor accumulate_gradients(const Stage& stage, const Batch& batch, std::vector<CarriedStates>& carried) {
  const int64_t parts = static_cast<int64_t>(carried.size()), rows = batch.tokens.dim(0) / parts;
  const double targets = static_cast<double>(batch.steps());
  Tensor loss;
  for (int64_t i = 0; i < parts; i++) {
    const Batch part = batch.rows(i * rows, (i + 1) * rows);
    const double weight = static_cast<double>(part.steps()) / targets;
    const Tensor share = scale(Var(stage.learn(part, weight, carried[i])), weight).value();
    if (loss.defined()) add_into(loss, share);
    else loss = share;
    carried[i] = {carried[i].student.detach(), carried[i].teacher.detach()};
  }
  return loss;
}

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// One run of train().
class Run {
 public:
  Run(Model& model, const Decoder* teacher, const Corpus& corpus, const TrainOptions& o, const Path& directory, const TrainHooks& hooks)
      : model_(model), o_(resolve(o, *model.decoder)), directory_(directory), hooks_(hooks), teacher_(teacher),
        recipe_(make_recipe(*model.decoder, teacher, o_.recipe)), carried_(o_.accumulate),
        loader_(corpus, o_.batch_tokens / o_.sequence, o_.sequence, o_.seed, o_.packing, teachable_steps(teacher, o_)),
        times_(recipe_, o_), time_left_(times_.costs()), start_(Clock::now()),
        lock_((make_directories(directory), directory / ".lock")) {
    state_.facts = facts_of(o_, corpus);
    state_.made_by = o_.made_by;
    const int64_t all = hooks_.held_out_tokens, sample = o_.valid_tokens > 0 ? o_.valid_tokens : times_.sample(all);
    state_.valid_tokens = sample < all ? sample : 0;
    state_.held_out = hooks_.held_out_hash;
  }

  TrainResult go() {
    const int64_t longest = teachable_steps(teacher_, o_);
    if (o_.packing == Packing::carried && longest > 0)
      note(format("the teacher knows %ld positions: longer documents begin anew after as many", static_cast<long>(longest)));
    if (o_.resume) {
      resume();
    } else {
      make_optimizer();
      prepare();
      const double nll = validate();
      // higher steps of an older run would pass for the newest of this one; they are kept until the lines above have succeeded
      remove_checkpoints(directory_);
      begin_stage(0, nll);
    }
    if (hooks_.on_start) hooks_.on_start(state_.step);
    // a run that was killed, or that continues with other batches, can stand at the end of a stage
    if (stage_is_over()) finish_stage(validate());
    while (batches() < times_.steps() && !result_.interrupted) {
      result_.interrupted = hooks_.should_stop && hooks_.should_stop();
      if (!result_.interrupted) step();
    }
    // a run that stops right after begin() resumes from the checkpoint before it, and calls it again
    if (!result_.interrupted || !at_begin()) save();
    if (!result_.interrupted) {
      publish();
      validate_all();
    }
    result_.steps = state_.step;
    result_.tokens = state_.tokens;
    if (tail_steps_ > 0) result_.loss = tail_ / static_cast<double>(tail_steps_);
    result_.seconds = seconds();
    return result_;
  }

 private:
  // The trained tokens in batches of this run's size. It is the step, unless the run was resumed with another size.
  int64_t batches() const { return state_.tokens / o_.batch_tokens; }
  size_t stage_index() const { return static_cast<size_t>(state_.stage); }
  const Stage& stage() const { return recipe_.stages[stage_index()]; }
  bool judged_by_loss() const { return hooks_.validate && !stage().begin && !stage().judge; }
  bool at_begin() const { return stage().begin && state_.step == state_.stage_begin; }
  bool stage_is_over() const { return batches() >= times_.end(stage_index()); }
  double seconds() const { return spent_before_ + seconds_since(start_); }
  // Tokens that a validation during the run scores; 1 if their number is not known.
  int64_t scored_tokens() const {
    return state_.valid_tokens > 0 ? state_.valid_tokens : std::max<int64_t>(1, hooks_.held_out_tokens);
  }
  void note(const std::string& line) const {
    if (hooks_.on_note) hooks_.on_note(line);
  }

  // The text to calibrate on, in parts of the same size as those of a step: the memory plan assumes it.
  std::vector<Batch> calibration_text() {
    const int64_t rows = (*o_.recipe.calibrate_tokens + o_.sequence - 1) / o_.sequence, most = o_.batch_tokens / o_.sequence / o_.accumulate;
    std::vector<Batch> parts;
    for (int64_t taken = 0; taken < rows;) {
      const Batch batch = loader_.next();
      for (int64_t at = 0; at < batch.tokens.dim(0) && taken < rows; at += most) {
        const int64_t count = std::min(most, rows - taken);
        parts.push_back(batch.rows(at, at + count));
        taken += count;
      }
    }
    // training reads the same rows again
    loader_.seek(state_.position);
    return parts;
  }

  void prepare() {
    if (!recipe_.prepare) return;
    const std::vector<Batch> text = calibration_text();
    const std::string more = recipe_.prepare(text);
    int64_t tokens = 0;
    for (const Batch& batch : text) tokens += batch.tokens.numel();
    note(format("calibrated on %ld tokens", static_cast<long>(tokens)));
    if (!more.empty()) note(more);
  }

  // Low-rank factors exist only during training: they are merged first.
  void publish() {
    std::vector<Path> replaced;
    if (model_.decoder->merge_lora()) {
      const NewDirectory merged(directory_ / "merged");
      write_model(model_, merged.path());
      replaced = publish_checkpoint(merged.path(), directory_);
    } else {
      replaced = publish_checkpoint(result_.checkpoint, directory_);
    }
    for (const Path& path : replaced) note("kept as " + path.string() + ": it would have been read instead of what was trained");
  }

  // A new optimizer over the parameters of this stage. The others require no gradient.
  void make_optimizer() {
    model_.decoder->set_recompute(o_.recompute);
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

  // Begins a stage, or the first one after it that has something to do. `nll`: the validation of the current weights; -1: none.
  void begin_stage(size_t index, double nll) {
    while (recipe_.stages[index].skip && recipe_.stages[index].skip()) index++;
    state_.stage = static_cast<int64_t>(index);
    state_.stage_name = stage().name;
    state_.stage_begin = state_.step;
    state_.stage_tokens = state_.tokens;
    carried_.assign(carried_.size(), {});
    state_.stage_steps = 0;
    state_.mean_loss = state_.mean_norm = 0;
    make_optimizer();
    const bool continues = stage().judge && !stage().begin, undoable = stage().begin || judged_by_loss();
    if (!continues) set_undo_point(nll, undoable);
    if (judged_by_loss()) note_undo_point("begins");
    if (undoable || (index > 0 && times_.saves(state_.tokens))) save();
    if (stage().begin) enter_stage();
  }

  // Changes the model at the beginning of a stage, after its first checkpoint was saved.
  void enter_stage() {
    const auto before = Clock::now();
    note(stage().begin(calibration_text()));
    make_optimizer();
    begin_seconds_ = seconds_since(before);
  }

  // The stage is compared with this validation when it ends, and undone to this step.
  void set_undo_point(double nll, bool undoable) {
    state_.stage_nll = std::isfinite(nll) ? nll : -1;
    state_.undo_step = undoable ? state_.step : -1;
    state_.valid_nll = nll;
  }

  void note_undo_point(const char* begins) const {
    const long some = static_cast<long>(state_.valid_tokens), all = static_cast<long>(hooks_.held_out_tokens);
    const std::string text = some == 0 ? "all held-out text" : format("a fixed sample, about %ld of %ld held-out tokens", some, all);
    note(format("stage %s %s at %.4f nats a token, on %s%s", stage().name.c_str(), begins, state_.valid_nll, text.c_str(),
                std::isfinite(state_.valid_nll) ? "" : "; it is not undone, whatever it ends with"));
  }

  // Undoes the stage if it made the model worse, and begins the next one. `nll`: the validation at its end.
  void finish_stage(double nll) {
    const Path begin = checkpoint_path(directory_, state_.undo_step);
    bool stays = true;
    if (stage().judge) {
      const Verdict verdict = stage().judge();
      note(verdict.note);
      stays = verdict.stays;
    } else if (judged_by_loss() && state_.stage_nll >= 0 && !(nll <= state_.stage_nll)) {  // NaN is worse than any number
      // these weights must not be lost if the others cannot be read
      save();
      stays = !std::filesystem::exists(begin);
      const std::string result = stays ? "it cannot be undone, " + begin.string() + " is gone; its weights stay" : "its weights are dropped";
      note(format("stage %s ended at %.4f nats a token, worse than the %.4f it began with: %s (try a smaller learning rate)",
                  stage().name.c_str(), nll, state_.stage_nll, result.c_str()));
    }
    if (!stays) {
      load_weights(begin, *model_.decoder);
      nll = result_.valid_nll = state_.valid_nll = state_.stage_nll;
    }
    if (stage_index() + 1 < recipe_.stages.size()) begin_stage(stage_index() + 1, nll);
  }

  void save() {
    const auto before = Clock::now();
    state_.seconds = seconds();
    if (recipe_.record) state_.record = recipe_.record();
    const NamedTensors carried = carried_tensors(*model_.decoder, teacher_, carried_);
    result_.checkpoint = save_checkpoint(directory_, model_, *optimizer_, state_, o_.keep, carried);
    time_left_.saved(seconds_since(before));
    if (recipe_.record) write_file_atomically(directory_ / "recipe.json", state_.record + "\n");
    note("saved " + result_.checkpoint.string());
  }

  double validate() {
    if (!hooks_.validate) return -1;
    const auto before = Clock::now();
    result_.valid_nll = hooks_.validate(state_.valid_tokens);
    time_left_.validated(scored_tokens(), seconds_since(before));
    return result_.valid_nll;
  }

  // Takes long for a large file. The checkpoint keeps the loss of the sample, which is comparable with those before.
  void validate_all() {
    if (!hooks_.validate || state_.valid_tokens == 0) return;
    const long all = static_cast<long>(hooks_.held_out_tokens);
    note(format("the model is written; now all %ld held-out tokens are scored", all));
    result_.valid_nll = hooks_.validate(0);
    note(format("validation on all %ld held-out tokens: %.4f nats a token", all, result_.valid_nll));
  }

  double seconds_left() const {
    const ToDo left = times_.to_do(state_.tokens, stage_index());
    const int64_t scored = scored_tokens() * left.validations + (state_.valid_tokens > 0 ? hooks_.held_out_tokens : 0);
    const auto begins = std::count_if(recipe_.stages.begin() + state_.stage + 1, recipe_.stages.end(),
                                      [](const Stage& s) { return s.begin && !s.skip(); });
    return begin_seconds_ * static_cast<double>(begins) + time_left_.seconds(left, static_cast<double>(scored));
  }

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
  std::vector<CarriedStates> carried_;  // of each part of the batch
  BatchLoader loader_;
  const Timetable times_;
  TimeLeft time_left_;
  std::optional<Optimizer> optimizer_;
  TrainingState state_;
  TrainResult result_;
  const Clock::time_point start_;
  const FileLock lock_;
  double spent_before_ = 0, begin_seconds_ = 0, step_seconds_ = 0, tail_ = 0;
  int64_t tokens_before_ = 0, tail_steps_ = 0;
};

void Run::resume() {
  const std::optional<Path> last = latest_checkpoint(directory_);
  CHECK(last, "%s: there is no checkpoint to resume from (run it without --resume)", directory_.c_str());
  const TrainingState saved = read_training_state(*last), now = state_;
  const std::vector<std::string> notes = check_resumes(*last, saved, now.facts, o_);
  CHECK(saved.stage < static_cast<int64_t>(recipe_.stages.size()), "%s: is in stage %ld, this recipe has %zu (give the same --transfer-share)",
        last->c_str(), static_cast<long>(saved.stage), recipe_.stages.size());
  const std::string& name = recipe_.stages[static_cast<size_t>(saved.stage)].name;
  CHECK(saved.stage_name.empty() || saved.stage_name == name, "%s: is in stage %s, this run would continue with stage %s (give the same --transfer-share)",
        last->c_str(), saved.stage_name.c_str(), name.c_str());
  CHECK(saved.tokens < o_.tokens + o_.batch_tokens, "%s: has been trained on %ld tokens, --tokens asks for %ld in all (give more --tokens)",
        last->c_str(), static_cast<long>(saved.tokens), static_cast<long>(o_.tokens));
  state_ = saved;
  state_.facts = now.facts;
  const bool other_batches = saved.facts.batch_tokens != o_.batch_tokens, other_text = !same_text(saved.facts, now.facts);
  if (other_batches || other_text || saved.facts.products != now.facts.products)
    state_.made_by += format("; from step %ld on: ", static_cast<long>(saved.step)) + o_.made_by;
  if (recipe_.restore) recipe_.restore(saved.record);
  make_optimizer();
  load_checkpoint(*last, model_, *optimizer_);
  if (!other_text) read_carried_states(*last, *model_.decoder, teacher_, o_.batch_tokens / o_.sequence / o_.accumulate, carried_);
  spent_before_ = saved.seconds;
  tokens_before_ = saved.tokens;
  loader_.seek(saved.position);
  result_.checkpoint = *last;
  const int64_t steps_left = times_.steps() - batches();
  note(format("resumed from %s, step %ld of %ld", last->c_str(), static_cast<long>(saved.step),
              static_cast<long>(saved.step + steps_left)));
  for (const std::string& line : notes) note(line);
  if (other_batches) {
    note(format("batches of %ld tokens from here on, %ld before: %ld steps are left; the learning rate goes on from where it was, "
                "and is not adapted to the batch (see --lr)",
                static_cast<long>(o_.batch_tokens), static_cast<long>(saved.facts.batch_tokens), static_cast<long>(steps_left)));
  }
  if (at_begin()) enter_stage();
  if (!hooks_.validate) return;
  // the size of the sample stays, unless the text or --valid-tokens asks for another
  const bool other_held_out = saved.held_out != now.held_out;
  if (other_held_out || o_.valid_tokens > 0) state_.valid_tokens = now.valid_tokens;
  state_.held_out = now.held_out;
  if (!judged_by_loss()) return;
  // both validations of a stage must score the same text, and the checkpoint to undo it to must exist
  if (saved.undo_step >= 0 && !other_held_out && state_.valid_tokens == saved.valid_tokens) return;
  set_undo_point(validate(), true);
  note_undo_point("was not validated on this text where it began. It goes on");
}

void Run::check_finite(double loss, double norm) const {
  if (std::isfinite(loss) && std::isfinite(norm)) return;
  const std::string where = optimizer_->not_finite();
  fail("training: step %ld of stage %s has loss %g and gradient norm %g, first in %s (%s; try a smaller learning rate, it is %g)",
       static_cast<long>(state_.step + 1), stage().name.c_str(), loss, norm, where.empty() ? "the loss" : where.c_str(),
       result_.checkpoint.empty() ? "nothing was saved yet" : ("last saved: " + result_.checkpoint.string()).c_str(), stage().lr);
}

bool Run::is_outlier(double loss, double norm) {
  // running means over about fifty steps; the comparison begins after twenty steps
  constexpr double kPart = 0.02;
  constexpr int64_t kFirst = 20;
  const bool outlier = o_.outliers > 0 && state_.stage_steps >= kFirst &&
                       (loss > o_.outliers * state_.mean_loss || norm > o_.outliers * state_.mean_norm);
  if (outlier) {
    note(format("step %ld is an outlier: loss %.3f (mean %.3f), gradient norm %.2f (mean %.2f)%s", static_cast<long>(state_.step + 1),
                loss, state_.mean_loss, norm, state_.mean_norm, o_.skip_outliers ? "; skipped" : ""));
  }
  // An outlier moves the means too, within a limit. If the loss stays at a new level, this level soon stops being an outlier.
  const auto move = [&](double& mean, double value) {
    if (outlier) value = std::min(value, std::max(2.0, o_.outliers) * mean);
    mean += std::max(kPart, 1 / static_cast<double>(state_.stage_steps + 1)) * (value - mean);
  };
  move(state_.mean_loss, loss);
  move(state_.mean_norm, norm);
  return outlier;
}

void Run::step() {
  const auto before = Clock::now();
  // a run that was resumed with more tokens can be in a stage before its time
  const int64_t first = std::min(times_.begin(stage_index()), state_.stage_tokens / o_.batch_tokens);
  const int64_t count = times_.end(stage_index()) - first;
  const int64_t warmup = std::max<int64_t>(1, std::llround(o_.warmup * static_cast<double>(count)));
  const Schedule schedule{o_.schedule, stage().lr, o_.min_lr < 0 ? 0.1 * stage().lr : o_.min_lr, warmup, count};

  TrainStep shown;
  shown.stage = stage().name;
  shown.lr = schedule.at(batches() - first);
  const Tensor loss = accumulate_gradients(stage(), loader_.next(), carried_);
  if (state_.step == state_.stage_begin) {
    const std::vector<std::string> missed = optimizer_->without_gradient();
    result_.without_gradient.insert(result_.without_gradient.end(), missed.begin(), missed.end());
  }
  // the CPU waits for the GPU here, once a step
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
  const double took = seconds_since(before);
  step_seconds_ += took;
  time_left_.stepped(stage_index(), took);

  if (times_.validates(state_.tokens)) shown.valid_nll = validate();
  state_.valid_nll = shown.valid_nll;
  if (batches() > times_.steps() - std::max<int64_t>(1, times_.steps() / 20)) {
    tail_ += shown.loss;
    tail_steps_++;
  }
  shown.step = state_.step;
  shown.steps = state_.step + std::max<int64_t>(0, times_.steps() - batches());
  shown.tokens = state_.tokens;
  shown.seconds = seconds();
  shown.tokens_per_second = static_cast<double>(state_.tokens - tokens_before_) / step_seconds_;
  shown.seconds_left = seconds_left();
  if (hooks_.on_step) hooks_.on_step(shown);
  result_.loss = shown.loss;
  result_.tokens_per_second = shown.tokens_per_second;
  if (stage_is_over()) finish_stage(shown.valid_nll);
  else if (times_.saves(state_.tokens)) save();
}

}  // namespace

TrainResult train(Model& model, const Decoder* teacher, const Corpus& corpus, const TrainOptions& options,
                  const Path& directory, const TrainHooks& hooks) {
  return Run(model, teacher, corpus, options, directory, hooks).go();
}

}  // namespace supra
