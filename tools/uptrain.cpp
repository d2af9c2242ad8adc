#include <algorithm>
#include <cstdio>
#include <optional>

#include "supra/evaluation/perplexity.h"
#include "supra/formats/parse/crc32.h"
#include "supra/formats/parse/json.h"
#include "supra/formats/config/openlm_config.h"
#include "supra/tokenizers/shard.h"
#include "supra/training/checkpoint.h"
#include "supra/training/self_data.h"
#include "supra/training/teacher_cache.h"
#include "supra/training/timetable.h"
#include "tools/command.h"
#include "tools/device_flags.h"
#include "tools/human.h"
#include "tools/interrupt.h"
#include "tools/memory_plan.h"
#include "tools/progress.h"
#include "tools/training_log.h"

// supra uptrain and supra train: one loop, from given or from random weights.

namespace supra {
namespace {

struct TrainFlags {
  Path input, output, teacher, log, teacher_cache;
  std::vector<std::string> data;
  std::vector<Path> valid;
  std::string tokenizer, separator;
  int64_t self_tokens = 0, teacher_top = 32;
  TrainOptions options;
  DeviceFlags device;
  bool json = false, overwrite = false, dry_run = false;
};

void declare(Args& args, TrainFlags& f) {
  TrainOptions& o = f.options;
  args.flag(&f.output, "--output -o", "DIR", "folder of the trained model and its checkpoints").required();
  args.flag(&f.data, "--data", "FILE[=WEIGHT]", "text, .jsonl or shards to train on, or self: text sampled from --teacher; a weight is a share of the rows").required();
  args.flag(&f.valid, "--valid", "FILE", "held-out text or .jsonl; a fixed sample of it is scored during the run, where stages begin and end and "
                                         "with every checkpoint; all of it is scored at the end");
  args.flag(&f.separator, "--docs", "SEP", "separator of documents; without it a file is one document");
  args.tokens(&o.tokens, "--tokens", "number of training tokens").required();
  args.flag(&f.tokenizer, "--tokenizer", "FILE", "tokenizer to use instead of the one beside the model; 'bytes' is raw bytes");
  args.flag(&o.recipe.lr, "--lr", "X", "peak learning rate; 0: by the model's size");
  args.flag(&o.min_lr, "--min-lr", "X", "final learning rate of every stage; below 0: a tenth of its peak");
  args.choice(&o.schedule, "--schedule",
              {{"cosine", Schedule::Kind::cosine}, {"linear", Schedule::Kind::linear}, {"wsd", Schedule::Kind::wsd}, {"constant", Schedule::Kind::constant}},
              "schedule of the learning rate; wsd falls over the last fifth");
  args.flag(&o.warmup, "--warmup", "X", "fraction of a stage's steps in which the learning rate rises").at_least(0);
  args.tokens(&o.batch_tokens, "--batch-tokens", "tokens of an optimizer step; 0: four sequences");
  args.tokens(&o.sequence, "--seq-len", "tokens of a sequence; 0: the model's context, at most 512, or 2048 for a window student with --recipe distill");
  args.choice(&o.packing, "--pack", {{"stream", Packing::stream}, {"documents", Packing::documents}, {"carried", Packing::carried}},
              "stream: windows anywhere in a stream of documents, as in the paper; documents: whole ones, each from an empty state; "
              "carried: the state of long documents is carried from batch to batch (truncated back-propagation)");
  args.flag(&o.accumulate, "--accumulate", "N", "compute a batch in N parts, which takes less memory").at_least(1);
  args.flag(&o.adamw.weight_decay, "--weight-decay", "X", "AdamW's decoupled decay").at_least(0);
  args.flag(&o.adamw.beta1, "--beta1", "X", "AdamW's decay of the mean gradient");
  args.flag(&o.adamw.beta2, "--beta2", "X", "AdamW's decay of the mean square");
  args.flag(&o.recompute, "--activation-checkpointing", "recompute layers in backward: less memory, a third more work");
  args.choice(&o.decay_vectors, "--decay-vectors", {{"yes", true}, {"no", false}}, "whether weight decay applies to norms and biases");
  args.flag(&o.new_lr, "--new-lr", "X", "factor on the learning rate of the weights that linearization added (1: the same as the others)").at_least(0);
  args.flag(&o.only, "--only", "PATTERN", "train only parameters with these names; * matches anything");
  args.flag(&o.freeze, "--freeze", "PATTERN", "do not train parameters with these names");
  args.flag(&o.outliers, "--outliers", "X", "note steps whose loss or gradient norm is above X times the running mean, X > 1; 0: none").at_least(0);
  args.flag(&o.skip_outliers, "--skip-outliers", "do not change the weights in such steps; if the new level lasts, it is accepted after some of them");
  args.flag(&o.keep, "--keep", "N", "checkpoints to keep, besides the best").at_least(1);
  args.flag(&o.clip, "--clip", "X", "largest norm of the gradient; 0: no limit").at_least(0);
  args.flag(&o.recipe.z_loss, "--z-loss", "X", "weight of the squared log-partition in the loss").at_least(0);
  args.flag(&o.seed, "--seed", "N", "random seed of the data's order and of random weights");
  args.tokens(&o.checkpoint_every, "--checkpoint-every", "tokens between checkpoints; 0: only at the end, at Ctrl-C and where a stage begins that may be undone");
  args.tokens(&o.validate_every, "--valid-every", "tokens between validations; 0: a fifth of all");
  args.tokens(&o.valid_tokens, "--valid-tokens",
              "held-out tokens that a validation during the run scores; 0: so many that all validations cost 5 % of the run, at least 2,048");
  args.flag(&o.resume, "--resume", "continue from the last checkpoint in DIR");
  args.flag(&o.accept_changes, "--accept-changes", "resume even if --data is other text or its files are in another order");
  args.flag(&f.overwrite, "--overwrite", "start from the beginning if DIR already has a run");
  args.flag(&f.dry_run, "--dry-run", "show the plan and the memory it needs, and stop");
  args.flag(&f.log, "--log", "run.csv", "log with one row per step, for supra plot");
  f.device.declare(args, true);
  common_flags(args, &f.json);
}

int report(const TrainFlags& f, const TrainResult& result) {
  if (f.json) {
    const auto measured = [](double loss) { return loss >= 0 ? Json(loss) : Json(); };
    const Json report = Json::object({{"tokens", result.tokens},
                                      {"steps", result.steps},
                                      {"loss", measured(result.loss)},
                                      {"valid_nll", measured(result.valid_nll)},
                                      {"tokens_per_second", result.tokens_per_second},
                                      {"seconds", result.seconds},
                                      {"checkpoint", result.checkpoint.string()},
                                      {"interrupted", result.interrupted}});
    printf("%s\n", report.dump().c_str());
  } else if (!result.interrupted) {
    printf("trained on %s tokens in %s", format_count(static_cast<double>(result.tokens)).c_str(),
           format_time(result.seconds).c_str());
    if (result.loss >= 0) printf(", loss %.4f", result.loss);
    if (result.valid_nll >= 0) printf(", validation %.4f nats a token", result.valid_nll);
    printf("\nwrote %s\n", f.output.c_str());
  }
  if (!result.interrupted) return 0;
  fprintf(stderr, "interrupted at step %ld; the last checkpoint is %s (--resume goes on from it)\n",
          static_cast<long>(result.steps), result.checkpoint.c_str());
  return 1;
}

// Shows the plan of a run: its stages, and the memory of a step.
int show_plan(const TrainFlags& f, Model& model, const Decoder* teacher, int64_t corpus_tokens, const MemoryPlan& plan) {
  const TrainOptions& o = f.options;
  const Recipe recipe = make_recipe(*model.decoder, teacher, o.recipe);
  const Timetable times(recipe, o);
  const struct {
    const char* name;
    int64_t bytes;
  } rows[] = {{"weights", plan.weights}, {"gradients", plan.gradients}, {"moments", plan.moments}, {"activations", plan.activations},
              {"loss", plan.loss},       {"teacher", plan.teacher},     {"peak", plan.peak()}};
  if (f.json) {
    Json bytes = Json::object(), stages = Json::array();
    for (const auto& row : rows) bytes.set(row.name, row.bytes);
    for (size_t i = 0; i < recipe.stages.size(); i++) {
      const Stage& stage = recipe.stages[i];
      stages.push(Json::object({{"name", stage.name}, {"steps", times.end(i) - times.begin(i)}, {"lr", stage.lr}}));
    }
    const Json report = Json::object({{"plan", std::move(bytes)},
                                      {"stages", std::move(stages)},
                                      {"batch_tokens", o.batch_tokens},
                                      {"sequence", o.sequence},
                                      {"epochs", static_cast<double>(o.tokens) / static_cast<double>(corpus_tokens)}});
    printf("%s\n", report.dump().c_str());
    return 0;
  }
  for (size_t i = 0; i < recipe.stages.size(); i++) {
    printf("stage %-9s %6ld steps, peak learning rate %.2g\n", recipe.stages[i].name.c_str(),
           static_cast<long>(times.end(i) - times.begin(i)), recipe.stages[i].lr);
  }
  for (const auto& row : rows) printf("%-12s %s\n", row.name, format_bytes(static_cast<double>(row.bytes)).c_str());
  const size_t memory = physical_memory(f.device.device);
  const bool fits = static_cast<size_t>(plan.peak() + plan.teacher) <= memory;
  printf("of %s that this %s has%s\n", format_bytes(static_cast<double>(memory)).c_str(), f.device.device == Device::cuda ? "GPU" : "machine",
         fits ? "" : (": too little, " + plan.advice()).c_str());
  return 0;
}

// "a.txt=2", unless a file has that very name.
DataFile read_data_file(const std::string& word) {
  const size_t at = word.rfind('=');
  if (at == word.npos || std::filesystem::exists(word)) return DataFile(word);
  DataFile file(word.substr(0, at));
  read_value(word.substr(at + 1), file.weight);
  CHECK(file.weight > 0, "--data %s: a weight is a number above 0", word.c_str());
  return file;
}

constexpr const char* kSelf = "self";

bool wants_self_data(const TrainFlags& f) {
  return std::any_of(f.data.begin(), f.data.end(), [](const std::string& word) { return read_data_file(word).path == kSelf; });
}

// The number of tokens that the teacher samples for --data self.
int64_t self_tokens(const TrainFlags& f) {
  return f.self_tokens > 0 ? std::min(f.self_tokens, f.options.tokens) : f.options.tokens;
}

// The shard of text that the teacher samples. A resumed run reads the shard that it began with.
Path self_data(const TrainFlags& f, const Tokenizer& tokenizer, const Decoder* teacher) {
  const Path shard = f.output / "self.bin";
  if (f.options.resume && std::filesystem::exists(shard)) {
    try {
      read_shard(shard, tokenizer);
    } catch (const Error& error) {
      fail("%s; this file has text sampled from the teacher: remove it and give --accept-changes to sample new text", error.what());
    }
    return shard;
  }
  CHECK(teacher, "--data self samples text from a teacher (name it with --teacher MODEL)");
  const int64_t tokens = self_tokens(f);
  make_directories(f.output);
  const FileLock lock(f.output / ".lock");
  Progress progress("sampled tokens", tokens);
  write_self_data(shard, *teacher, tokenizer, tokens, f.options.seed, [&](int64_t drawn) { progress.update(drawn); });
  return shard;
}

// Opens the teacher's predictions for distillation, and shows the size of their file.
std::shared_ptr<TeacherCache> open_cache(const TrainFlags& f, const Decoder& teacher, const Corpus& corpus) {
  const TrainOptions& o = f.options;
  const double rows = static_cast<double>(o.tokens) / static_cast<double>(o.sequence) * (1 - o.recipe.transfer_share);
  fprintf(stderr, "%s: %s for the %s rows that the distillation reads, %s\n", f.teacher_cache.c_str(),
          format_bytes(rows * static_cast<double>(TeacherFile::row_bytes(teacher.config().vocab, f.teacher_top, o.sequence))).c_str(), format_count(rows).c_str(),
          std::filesystem::exists(f.teacher_cache) ? "but for those that are there" : "to be written");
  if (f.dry_run) return nullptr;
  return std::make_shared<TeacherCache>(f.teacher_cache, teacher, corpus, f.teacher_top, o.sequence, o.seed, o.packing);
}

// Text that is not trained on, cut into sequences.
struct ValidationText {
  std::vector<std::vector<int32_t>> sequences;
  std::string hash;
};

ValidationText read_held_out(const TrainFlags& f, const Tokenizer& tokenizer) {
  ValidationText held_out;
  uint32_t crc = 0;
  for (const Path& path : f.valid) {
    const TextOptions options = {f.separator, 0, 0, f.options.sequence, tokenizer.document_marks().begin >= 0};
    for (std::vector<int32_t>& ids : read_sequences(tokenizer, path, options)) {
      crc = crc32(crc, {reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof ids[0]});
      held_out.sequences.push_back(std::move(ids));
    }
  }
  if (!f.valid.empty()) held_out.hash = format("%08x", crc);
  return held_out;
}

// Some sequences of the training text, evenly spread. They replace held-out text for a student that is near its teacher already, so
// that a run which makes it worse is undone.
ValidationText sample_of(const Corpus& corpus, int64_t length) {
  constexpr int64_t kSequences = 8;
  ValidationText sample;
  for (const Source& source : corpus.sources) {
    const int64_t n = std::min(kSequences, source.tokens() / length);
    for (int64_t i = 0; i < n; i++) {
      std::vector<int32_t>& ids = sample.sequences.emplace_back();
      const int64_t begin = (source.tokens() - length) * i / n;
      for (int64_t k = 0; k < length; k++) ids.push_back(source.id(begin + k));
    }
  }
  sample.hash = "a sample of the training text";
  return sample;
}

// Whether a run in `output` overwrites this model: the model is there, or is one of the run's checkpoints.
bool writes_over(const Path& model, const Path& output) {
  std::error_code absent;
  const Path checkpoints = std::filesystem::weakly_canonical(output / "checkpoints", absent);
  const std::string inside = std::filesystem::weakly_canonical(model, absent).lexically_relative(checkpoints).string();
  return std::filesystem::equivalent(model, output, absent) || std::filesystem::equivalent(model, output / "model.safetensors", absent) ||
         (!inside.empty() && !inside.starts_with(".."));
}

// A resumed run keeps the precision of products that it began with, unless another one is given.
void choose_products(TrainFlags& f) {
  f.options.accept_products = f.device.products_given->given();
  const bool told = f.options.accept_products || products_asked_for();
  const std::optional<Path> last = f.options.resume && !told && f.device.device == Device::cpu ? latest_checkpoint(f.output) : std::nullopt;
  if (last) set_products(products_named(read_training_state(*last).facts.products.c_str(), last->c_str()));
}

void check_output(const TrainFlags& f, const Decoder* teacher) {
  CHECK(f.options.resume || !writes_over(f.input, f.output),
        "%s: is the model itself, or contains it, and would be overwritten (give another --output)", f.output.c_str());
  CHECK(!teacher || !writes_over(f.teacher, f.output),
        "%s: is the teacher itself, or contains it, and would be overwritten (give another --output)", f.output.c_str());
  const bool taken = latest_checkpoint(f.output) || std::filesystem::exists(f.output / "config.json") ||
                     std::filesystem::exists(f.output / "model.safetensors");
  CHECK(f.options.resume || f.overwrite || !taken,
        "%s: already holds a run or a model (--resume continues a run, --overwrite starts from the beginning)", f.output.c_str());
}

// The text to train on, and its number of tokens, including those that a dry run does not sample.
std::pair<Corpus, int64_t> read_training_text(TrainFlags& f, const Tokenizer& tokenizer, Decoder* teacher) {
  std::vector<DataFile> files;
  int64_t planned = 0;
  for (const std::string& word : f.data) {
    DataFile file = read_data_file(word);
    if (file.path == kSelf && f.dry_run) {
      planned += self_tokens(f);
      continue;
    }
    if (file.path == kSelf) file.path = self_data(f, tokenizer, teacher);
    files.push_back(std::move(file));
  }
  Corpus corpus = files.empty() ? Corpus() : read_corpus(files, tokenizer, f.separator);
  const int64_t tokens = corpus.tokens() + planned;
  return {std::move(corpus), tokens};
}

// Sets the text on which the progressive recipe judges its layers, and shows the progress of measuring them.
void judge_layers_on(const std::vector<std::vector<int32_t>>& held_out, RecipeOptions& recipe) {
  constexpr int64_t kJudgedTokens = 4096;
  recipe.held_out = spread_sample(held_out, kJudgedTokens);
  recipe.on_progress = [measuring = std::make_shared<std::optional<Progress>>()](int64_t done, int64_t of) {
    CHECK(!interrupted(), "interrupted while the layers were measured; only these measurements are lost (run it again)");
    if (done == 1) measuring->emplace("layers measured on sequence", of);
    (*measuring)->update(done);
    if (done == of) measuring->reset();
  };
}

// Trains, with a line of progress and a log.
TrainResult train_watched(const TrainFlags& f, Model& model, Decoder* teacher, const Corpus& corpus, const ValidationText& held_out,
                          const MemoryPlan& plan) {
  catch_interrupts();
  TrainingLog log(f.log);
  std::optional<Progress> progress;
  double valid = -1;
  TrainHooks hooks;
  if (!held_out.sequences.empty()) {
    hooks.held_out_tokens = predicted_tokens(held_out.sequences);
    hooks.held_out_hash = held_out.hash;
    hooks.validate = [&](int64_t tokens) {
      return evaluate(*model.decoder, tokens > 0 ? spread_sample(held_out.sequences, tokens) : held_out.sequences).nll;
    };
  }
  hooks.should_stop = interrupted;
  hooks.on_note = [&](const std::string& line) {
    if (progress) progress->say(line);
    else fprintf(stderr, "%s\n", line.c_str());
  };
  log.on_problem = hooks.on_note;
  hooks.on_start = [&](int64_t step) { log.start(step); };
  hooks.on_step = [&](const TrainStep& s) {
    if (!progress) progress.emplace("step", s.steps).start_at(s.step - 1);
    if (s.valid_nll >= 0) valid = s.valid_nll;
    std::string details = format("%s loss %.3f", s.stage.c_str(), s.loss);
    if (valid >= 0) details += format(" | valid %.3f", valid);
    details += format(" | norm %.2f | lr %.1e | %s tok/s", s.grad_norm, s.lr, format_count(s.tokens_per_second).c_str());
    progress->update(s.step, details, s.seconds_left);
    log.write(s);
  };
  try {
    TrainResult result = train(model, teacher, corpus, f.options, f.output, hooks);
    if (progress) progress->finish();
    return result;
  } catch (const OutOfMemory& error) {
    fail("%s; %s", error.what(), plan.advice().c_str());
  }
}

int run_training(TrainFlags& f, Model model, Decoder* teacher = nullptr) {
  const Tokenizer& tokenizer = tokenizer_of(model);
  check_output(f, teacher);
  f.device.move(*model.decoder);
  // the teacher is only run, so its weights may change their format; but a cache identifies it by the bytes of its file
  if (teacher) f.teacher_cache.empty() ? f.device.place(*teacher) : f.device.move(*teacher);
  f.options = resolve(f.options, *model.decoder);
  const TrainOptions& o = f.options;

  const auto [corpus, corpus_tokens] = read_training_text(f, tokenizer, teacher);
  const bool progressive = o.recipe.kind == RecipeKind::progressive;
  const bool heals = teacher && distills(o.recipe.kind) && (progressive || is_window_student(model.config()));
  const ValidationText held_out = heals && f.valid.empty() ? sample_of(corpus, o.sequence) : read_held_out(f, tokenizer);
  if (heals && f.valid.empty()) {
    fprintf(stderr, "no --valid: %s tokens of the training text tell whether the student gets better\n",
            format_count(static_cast<double>(predicted_tokens(held_out.sequences))).c_str());
  }
  if (progressive) judge_layers_on(held_out.sequences, f.options.recipe);
  fprintf(stderr, "%s parameters; %s tokens of text in %s documents, %.2f epochs; batches of %ld x %ld, lr %.2g\n",
          format_count(static_cast<double>(model.decoder->parameter_count())).c_str(),
          format_count(static_cast<double>(corpus_tokens)).c_str(), format_count(static_cast<double>(corpus.documents())).c_str(),
          static_cast<double>(o.tokens) / static_cast<double>(corpus_tokens),
          static_cast<long>(o.batch_tokens / o.sequence), static_cast<long>(o.sequence), o.recipe.lr);

  if (f.device.device == Device::cpu && products() != Products::f32)
    fprintf(stderr, "products of matrices have factors in %s; --products f32 is exact\n", name(products()));
  if (!f.teacher_cache.empty()) f.options.recipe.cache = open_cache(f, *teacher, corpus);
  const MemoryPlan plan = plan_memory(*model.decoder, teacher, o);
  if (f.dry_run) return show_plan(f, model, teacher, corpus_tokens, plan);
  fprintf(stderr, "memory: %s at its peak, %s of it activations\n", format_bytes(static_cast<double>(plan.peak())).c_str(),
          format_bytes(static_cast<double>(plan.activations)).c_str());

  const TrainResult result = train_watched(f, model, teacher, corpus, held_out, plan);
  if (!result.without_gradient.empty()) {
    fprintf(stderr, "%zu parameters received no gradient: %s, ...\n", result.without_gradient.size(), result.without_gradient[0].c_str());
  }
  return report(f, result);
}

}  // namespace

int run_uptrain(Args& args) {
  TrainFlags f;
  RecipeOptions& recipe = f.options.recipe;
  args.positional(&f.input, "MODEL", "a model from supra linearize (or any other model)");
  args.choice(&recipe.kind, "--recipe",
              {{"supra", RecipeKind::supra}, {"transfer", RecipeKind::transfer}, {"distill", RecipeKind::distill}, {"progressive", RecipeKind::progressive}},
              "supra: the paper's language-model loss on all weights; transfer: attention transfer first; distill: calibration, attention "
              "transfer and the teacher's distribution (a window student skips calibration and transfer, and only its attention is "
              "trained, on sequences of up to 2,048); progressive: begins with the teacher and makes one layer at a time recurrent");
  args.tokens(&f.self_tokens, "--self-tokens", "tokens to sample for --data self, at most --tokens; 0: as many as --tokens");
  args.flag(&f.teacher, "--teacher", "MODEL", "the softmax model that transfer, distill, progressive and --data self learn from");
  args.flag(&f.teacher_cache, "--teacher-cache", "FILE",
            "the teacher's predictions for distill, written by the first run and read by later runs over the same rows");
  args.flag(&f.teacher_top, "--teacher-top", "K", "store the K most probable tokens, and one sum for all others").at_least(1);
  args.flag(&recipe.transfer_lr, "--transfer-lr", "X", "peak learning rate of the attention transfer; 0: by the model's width");
  args.flag(&recipe.transfer_share, "--transfer-share", "X", "fraction of the tokens for attention transfer").at_least(0);
  args.flag(&recipe.keep_softmax_most, "--keep-softmax-most", "K", "progressive: the K most sensitive layers keep the teacher's attention").at_least(0);
  args.flag(&recipe.convert_share, "--convert-share", "X", "progressive: fraction of the tokens for making layers recurrent; the rest distills").at_least(0);
  args.flag(&recipe.convert_bound, "--convert-bound", "X",
            "progressive: undo a layer that costs more than X times the KL of replacing it alone; 0: never").at_least(0);
  args.flag(&recipe.kl_weight, "--kl-weight", "X", "weight of the teacher's distribution in the loss; the rest is the loss on the text").at_least(0);
  args.tokens(&recipe.calibrate_tokens, "--calibrate-tokens", "tokens of each calibration in distill and progressive; 0: none; default: by the model's size, 8192 or more");
  LoraConfig lora;
  args.flag(&lora.rank, "--lora", "RANK", "train only low-rank factors of this rank and the new weights; 0: all weights").at_least(0);
  args.flag(&lora.alpha, "--lora-alpha", "X", "the product of the factors is multiplied by X / RANK").at_least(0);
  args.flag(&lora.on, "--lora-on", "PATTERN", "matrices of the layers that get factors; default: in_proj and out_proj");
  declare(args, f);
  args.parse();
  f.device.check(args);
  choose_products(f);
  f.options.made_by = args.command_line();
  CHECK(f.teacher_cache.empty() || distills(recipe.kind),
        "--teacher-cache is only for --recipe distill and progressive (remove it, or give one of these)");
  std::optional<Model> teacher;
  if (recipe.kind != RecipeKind::supra || wants_self_data(f)) {
    CHECK(!f.teacher.empty(), "--recipe transfer, distill and progressive and --data self learn from a teacher (name it with --teacher MODEL)");
    teacher = load_model(f.teacher, "", Weights::stored);
  }
  Model model = load_model(f.input, f.tokenizer);
  if (lora.on.empty()) lora.on = {"attention.in_proj", "attention.out_proj"};
  if (lora.rank > 0) model.decoder->add_lora(lora, f.options.seed);
  return run_training(f, std::move(model), teacher ? teacher->decoder.get() : nullptr);
}

int run_train(Args& args) {
  TrainFlags f;
  args.positional(&f.input, "CONFIG.json", "the model's shape, a config.json as in OpenLM");
  declare(args, f);
  args.parse();
  f.device.check(args);
  choose_products(f);
  f.options.made_by = args.command_line();
  Model model;
  model.decoder = make_decoder(read_openlm_config(Json::load(f.input)));
  model.tokenizer = load_tokenizer(f.tokenizer.empty() ? std::filesystem::absolute(f.input).parent_path().string() : f.tokenizer);
  model.decoder->init_weights(f.options.seed);
  return run_training(f, std::move(model));
}

}  // namespace supra
