#include "supra/training/train.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "kernels/products.h"
#include "supra/training/calibrate.h"
#include "supra/training/carried_states.h"
#include "supra/training/checkpoint.h"
#include "supra/training/resume.h"
#include "supra/training/time_left.h"

namespace supra {

// Distilling a window student: there is nothing to transfer or to fit, attention alone learns, and only text beyond the
// windows teaches it. Figures in recipe.h.
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

std::vector<int64_t> stage_ends(const Recipe& recipe, int64_t steps) {
  std::vector<int64_t> ends;
  double share = 0;
  for (const Stage& stage : recipe.stages) {
    share += stage.share;
    ends.push_back(std::min(steps, static_cast<int64_t>(std::llround(share * static_cast<double>(steps)))));
  }
  ends.back() = steps;
  for (size_t i = 0; i < ends.size(); i++) {
    CHECK(!recipe.stages[i].skip || ends[i] > (i == 0 ? 0 : ends[i - 1]),
          "training: %ld steps are too few for %zu stages, %s gets none (give more --tokens, or a smaller --batch-tokens)",
          static_cast<long>(steps), ends.size(), recipe.stages[i].name.c_str());
  }
  return ends;
}

// Steps of a document after which a teacher's state begins anew, and the student's with it; 0: never. A teacher with
// softmax layers knows no positions beyond its context, and what it says there is wrong.
static int64_t teachable_steps(const Decoder* teacher, const TrainOptions& o) {
  const int64_t limit = teacher && o.recipe.kind != RecipeKind::supra ? position_limit(teacher->config()) : 0;
  CHECK(limit == 0 || o.sequence <= limit, "training: sequences of %ld tokens, but the teacher has only %ld positions (give --seq-len %ld)",
        static_cast<long>(o.sequence), static_cast<long>(limit), static_cast<long>(limit));
  return limit;
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

Tensor accumulate_gradients(const Stage& stage, const Batch& batch, std::vector<CarriedStates>& carried) {
  const int64_t parts = static_cast<int64_t>(carried.size()), rows = batch.tokens.dim(0) / parts;
  const double targets = targets_of(batch);
  Tensor loss;
  for (int64_t i = 0; i < parts; i++) {
    const Batch part = rows_of(batch, i * rows, (i + 1) * rows);
    const double weight = targets_of(part) / targets;
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
        carried_(o_.accumulate),
        loader_(corpus, o_.batch_tokens / o_.sequence, o_.sequence, o_.seed, o_.packing,
                teachable_steps(teacher, o_)),
        times_(recipe_, o_),
        time_left_(times_.costs()),
        start_(Clock::now()),
        lock_((make_directories(directory), directory / ".lock")) {
    state_.seed = o_.seed;
    state_.made_by = o_.made_by;
    state_.batch_tokens = o_.batch_tokens;
    state_.sequence = o_.sequence;
    state_.packing = name_of(o_.packing);
    state_.recipe = name_of(o_.recipe.kind);
    state_.corpus_tokens = corpus.tokens();
    state_.corpus = format("%016lx", static_cast<unsigned long>(corpus.hash()));
    state_.products = name(products());
    state_.valid_tokens = sample();
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
      left_ = times_.to_do(0);
      left_.validations--;
      const double nll = hooks_.validate ? validate() : -1;
      // Higher steps of an older run would pass for the newest of this one. They go last: what is above may fail.
      remove_checkpoints(directory_);
      begin_stage(0, nll);
    }
    if (hooks_.on_start) hooks_.on_start(state_.step);
    // a run can have been killed, or get other batches, just where a stage ends
    if (stage_is_over()) finish_stage(hooks_.validate ? validate() : -1);
    while (batches() < times_.steps() && !result_.interrupted) {
      if (hooks_.should_stop && hooks_.should_stop()) {
        result_.interrupted = true;
        // what has only begun is in a checkpoint, and would be begun twice
        if (!at_begin()) save();
        break;
      }
      step();
    }
    if (!result_.interrupted) {
      save();
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
  // Of this size, that the tokens so far are: the step, unless a run goes on with larger or smaller batches.
  int64_t batches() const { return state_.tokens / o_.batch_tokens; }
  size_t stage_index() const { return static_cast<size_t>(state_.stage); }
  const Stage& stage() const { return recipe_.stages[stage_index()]; }
  const Stage& stage_at(size_t index) const { return recipe_.stages[index]; }
  bool at_begin() const { return stage().begin && state_.step == state_.stage_begin; }
  bool stage_is_over() const { return batches() >= times_.end(stage_index()); }
  double seconds() const { return spent_before_ + seconds_since(start_); }
  void note(const std::string& line) const {
    if (hooks_.on_note) hooks_.on_note(line);
  }

  // Tokens that a validation scores; 0: all.
  int64_t sample() const {
    const int64_t all = hooks_.held_out_tokens, some = o_.valid_tokens > 0 ? o_.valid_tokens : times_.sample(all);
    return some < all ? some : 0;
  }

  // What is calibrated on: parts no larger than those that a step is made in, the memory plan counts on it.
  std::vector<Batch> calibration_text() {
    const int64_t rows = (*o_.recipe.calibrate_tokens + o_.sequence - 1) / o_.sequence, most = o_.batch_tokens / o_.sequence / o_.accumulate;
    std::vector<Batch> parts;
    for (int64_t taken = 0; taken < rows;) {
      const Batch batch = loader_.next();
      for (int64_t at = 0; at < batch.tokens.dim(0) && taken < rows; at += most) {
        const int64_t count = std::min(most, rows - taken);
        parts.push_back(rows_of(batch, at, at + count));
        taken += count;
      }
    }
    // of a stream of its own: training reads its data from where it is
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

  // The factors of a LoRA belong to its training alone: they are merged first.
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

  // A new optimizer over the parameters of this stage; the others ask for no gradient.
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

  // `nll`: the validation of the weights as they are; not read where nothing is validated.
  void begin_stage(size_t index, double nll) {
    for (; stage_at(index).skip && stage_at(index).skip(); index++) left_ = times_.to_do(state_.tokens, index + 1);
    state_.stage = static_cast<int64_t>(index);
    state_.stage_name = stage().name;
    state_.stage_begin = state_.step;
    state_.stage_tokens = state_.tokens;
    carried_.assign(carried_.size(), {});
    state_.stage_steps = 0;
    state_.mean_loss = state_.mean_norm = 0;
    make_optimizer();
    if (stage().judge && !stage().begin) {
      if (times_.saves(state_.tokens)) save();
      return;
    }
    state_.stage_nll = -1;
    state_.undo_step = -1;
    if (stage().begin) {
      state_.stage_nll = state_.valid_nll = std::isfinite(nll) ? nll : -1;
      state_.undo_step = state_.step;
      save();
      return enter_stage();
    }
    if (hooks_.validate) judge_from_here(nll, "begins");
    if (hooks_.validate || (index > 0 && times_.saves(state_.tokens))) save();
  }

  // The checkpoint where a stage begins is of before this.
  void enter_stage() {
    if (!stage().begin) return;
    const auto before = Clock::now();
    note(stage().begin(calibration_text()));
    make_optimizer();
    begin_seconds_ = seconds_since(before);
  }

  // When the stage ends, it is compared with this validation, and undone to this step if it is worse.
  void judge_from_here(double nll, const char* begins) {
    const bool finite = std::isfinite(nll);
    state_.stage_nll = finite ? nll : -1;
    state_.undo_step = state_.step;
    state_.valid_nll = nll;
    note(format("stage %s %s at %.4f nats a token, on %s%s", stage().name.c_str(), begins, nll, sample_text().c_str(),
                finite ? "" : "; it is not undone, whatever it ends with"));
  }

  std::string sample_text() const {
    if (state_.valid_tokens == 0) return "all held-out text";
    return format("a fixed sample, about %ld of %ld held-out tokens", static_cast<long>(state_.valid_tokens),
                  static_cast<long>(hooks_.held_out_tokens));
  }

  // Takes back what the stage made worse, and begins the next one. `nll`: the validation at its end.
  void finish_stage(double nll) {
    const Path begin = checkpoint_path(directory_, state_.undo_step);
    if (stage().judge) {
      const Verdict verdict = stage().judge();
      note(verdict.note);
      if (!verdict.stays) {
        load_weights(begin, *model_.decoder);
        nll = result_.valid_nll = state_.valid_nll = state_.stage_nll;
      }
    } else if (!stage().begin && hooks_.validate && state_.stage_nll >= 0 && !(nll <= state_.stage_nll)) {  // NaN is worse than any number
      // if the other weights cannot be read, these are not lost
      save();
      const std::string ended = format("stage %s ended at %.4f nats a token, worse than the %.4f it began with", stage().name.c_str(),
                                       nll, state_.stage_nll);
      if (std::filesystem::exists(begin)) {
        note(ended + ": its weights are dropped (try a smaller learning rate)");
        load_weights(begin, *model_.decoder);
        nll = result_.valid_nll = state_.valid_nll = state_.stage_nll;
      } else {
        note(ended + ": it cannot be undone, " + begin.string() + " is gone; its weights stay (try a smaller learning rate)");
      }
    }
    if (stage_index() + 1 < recipe_.stages.size()) begin_stage(stage_index() + 1, nll);
  }

  Path save() {
    const auto before = Clock::now();
    state_.seconds = seconds();
    if (recipe_.record) state_.record = recipe_.record();
    result_.checkpoint = save_checkpoint(directory_, model_, *optimizer_, state_, static_cast<int>(o_.keep),
                                         carried_tensors(*model_.decoder, teacher_, carried_));
    time_left_.saved(seconds_since(before));
    if (recipe_.record) write_file_atomically(directory_ / "recipe.json", state_.record + "\n");
    note("saved " + result_.checkpoint.string());
    return result_.checkpoint;
  }

  double validate() {
    const auto before = Clock::now();
    const double nll = hooks_.validate(state_.valid_tokens);
    time_left_.validated(state_.valid_tokens > 0 ? state_.valid_tokens : hooks_.held_out_tokens, seconds_since(before));
    return result_.valid_nll = nll;
  }

  // At the end, when the model is written: a large file takes long, and who does not wait for it loses nothing. The checkpoint
  // keeps the figure of the sample, which is comparable with those before.
  void validate_all() {
    if (!hooks_.validate || state_.valid_tokens == 0) return;
    note(format("the model is written; now all %ld held-out tokens are scored", static_cast<long>(hooks_.held_out_tokens)));
    result_.valid_nll = hooks_.validate(0);
    note(format("validation on all %ld held-out tokens: %.4f nats a token", static_cast<long>(hooks_.held_out_tokens), result_.valid_nll));
  }

  double seconds_left() const {
    const double all = static_cast<double>(std::max<int64_t>(1, hooks_.held_out_tokens));
    const double each = state_.valid_tokens > 0 ? static_cast<double>(state_.valid_tokens) : all;
    const bool last_of_all = hooks_.validate && state_.valid_tokens > 0;
    const auto begins = std::count_if(recipe_.stages.begin() + state_.stage + 1, recipe_.stages.end(),
                                      [](const Stage& s) { return s.begin && !s.skip(); });
    return begin_seconds_ * static_cast<double>(begins) +
           time_left_.seconds(left_, each * static_cast<double>(left_.validations) + (last_of_all ? all : 0));
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
  std::vector<CarriedStates> carried_;  // one a part of the batch
  BatchLoader loader_;
  const Timetable times_;
  TimeLeft time_left_;
  ToDo left_;
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
  const std::vector<std::string> notes = check_resumes(*last, saved, now, o_);
  CHECK(saved.stage < static_cast<int64_t>(recipe_.stages.size()), "%s: is in stage %ld, this recipe has %zu (give the same --transfer-share)",
        last->c_str(), static_cast<long>(saved.stage), recipe_.stages.size());
  const std::string& name = recipe_.stages[static_cast<size_t>(saved.stage)].name;
  CHECK(saved.stage_name.empty() || saved.stage_name == name, "%s: is in stage %s, this run would continue with stage %s (give the same --transfer-share)",
        last->c_str(), saved.stage_name.c_str(), name.c_str());
  CHECK(saved.tokens < o_.tokens + o_.batch_tokens, "%s: has been trained on %ld tokens, --tokens asks for %ld in all (give more --tokens)",
        last->c_str(), static_cast<long>(saved.tokens), static_cast<long>(o_.tokens));
  const bool other_batches = saved.batch_tokens != o_.batch_tokens, other_text = !same_text(saved, now),
             other_products = saved.products != now.products;
  const bool same_held_out = saved.held_out == now.held_out;
  state_ = saved;
  if (other_batches || other_text || other_products) state_.made_by += format("; from step %ld on: ", static_cast<long>(saved.step)) + o_.made_by;
  state_.batch_tokens = now.batch_tokens;
  state_.recipe = now.recipe;
  state_.products = now.products;
  state_.corpus_tokens = now.corpus_tokens;
  state_.corpus = now.corpus;
  if (recipe_.restore) recipe_.restore(saved.record);
  make_optimizer();
  load_checkpoint(*last, model_, *optimizer_);
  if (!other_text) read_carried_states(*last, *model_.decoder, teacher_, o_.batch_tokens / o_.sequence / o_.accumulate, carried_);
  spent_before_ = saved.seconds;
  tokens_before_ = saved.tokens;
  loader_.seek(saved.position);
  left_ = times_.to_do(saved.tokens, stage_index());
  result_.checkpoint = *last;
  note(format("resumed from %s, step %ld of %ld", last->c_str(), static_cast<long>(saved.step),
              static_cast<long>(saved.step + times_.steps() - batches())));
  for (const std::string& line : notes) note(line);
  if (other_batches) {
    note(format("batches of %ld tokens from here on, %ld before: %ld steps are left; the learning rate goes on from where it was, "
                "and is not adapted to the batch (see --lr)",
                static_cast<long>(o_.batch_tokens), static_cast<long>(saved.batch_tokens), static_cast<long>(times_.steps() - batches())));
  }
  if (at_begin()) enter_stage();
  if (!hooks_.validate) return;
  // what is held out is the same sample as before, unless its size is asked for
  if (!same_held_out || o_.valid_tokens > 0) state_.valid_tokens = now.valid_tokens;
  state_.held_out = now.held_out;
  // a stage is judged by one text alone, and undone to a checkpoint that is there
  if (stage().begin || stage().judge) return;
  if (saved.undo_step < 0 || !same_held_out || state_.valid_tokens != saved.valid_tokens)
    judge_from_here(validate(), "was not validated on this text where it began. It goes on");
}

void Run::check_finite(double loss, double norm) const {
  if (std::isfinite(loss) && std::isfinite(norm)) return;
  const std::string where = optimizer_->not_finite();
  fail("training: step %ld of stage %s has loss %g and gradient norm %g, first in %s (%s; try a smaller learning rate, it is %g)",
       static_cast<long>(state_.step + 1), stage().name.c_str(), loss, norm, where.empty() ? "the loss" : where.c_str(),
       result_.checkpoint.empty() ? "nothing was saved yet" : ("last saved: " + result_.checkpoint.string()).c_str(), stage().lr);
}

bool Run::is_outlier(double loss, double norm) {
  // means over about the last fifty steps, once there are twenty
  constexpr double kPart = 0.02;
  constexpr int64_t kFirst = 20;
  const bool outlier = o_.outliers > 0 && state_.stage_steps >= kFirst &&
                       (loss > o_.outliers * state_.mean_loss || norm > o_.outliers * state_.mean_norm);
  if (outlier) {
    note(format("step %ld is an outlier: loss %.3f (mean %.3f), gradient norm %.2f (mean %.2f)%s", static_cast<long>(state_.step + 1),
                loss, state_.mean_loss, norm, state_.mean_norm, o_.skip_outliers ? "; skipped" : ""));
  }
  // An outlier moves the means too, by as much as the largest value that is none, or twice the mean: where the loss rises to
  // a new level for good, that level is no outlier for long.
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
  // a run that got more tokens can be in a stage before the timetable has it begin
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
  const double took = seconds_since(before);
  step_seconds_ += took;
  time_left_.stepped(stage_index(), took);
  left_.steps[stage_index()]--;
  left_.saves -= times_.saves(state_.tokens);

  if (times_.validates(state_.tokens)) {
    left_.validations--;
    if (hooks_.validate) shown.valid_nll = validate();
  }
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
