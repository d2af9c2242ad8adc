#include "supra/training/resume.h"

#include "kernels/products.h"
#include "tensor/error.h"

namespace supra {

RunFacts facts_of(const TrainOptions& o, const Corpus& corpus) {
  return {.seed = o.seed,
          .batch_tokens = o.batch_tokens,
          .sequence = o.sequence,
          .corpus_tokens = corpus.tokens(),
          .packing = name_of(o.packing),
          .recipe = name_of(o.recipe.kind),
          .corpus = format("%016lx", static_cast<unsigned long>(corpus.hash())),
          .products = name(products())};
}

bool same_text(const RunFacts& saved, const RunFacts& now) {
  return saved.corpus_tokens == now.corpus_tokens && (saved.corpus.empty() || saved.corpus == now.corpus);
}

std::vector<std::string> check_resumes(const Path& checkpoint, const TrainingState& state, const RunFacts& now,
                                       const TrainOptions& options) {
  const RunFacts& saved = state.facts;
  const char* const where = checkpoint.c_str();
  const auto agree = [&](const char* flag, const std::string& then, const std::string& here) {
    CHECK(then == here, "%s: was made with %s %s, this run has %s (give the same)", where, flag, then.c_str(), here.c_str());
  };
  agree("--seed", std::to_string(saved.seed), std::to_string(now.seed));
  agree("--seq-len", std::to_string(saved.sequence), std::to_string(now.sequence));
  agree("--pack", saved.packing, now.packing);
  CHECK(saved.batch_tokens == now.batch_tokens || now.packing != "carried",
        "%s: was made with --batch-tokens %ld, this run has %ld: the number of carried rows cannot change (give the same)",
        where, static_cast<long>(saved.batch_tokens), static_cast<long>(now.batch_tokens));
  const bool old = saved.recipe.empty();
  CHECK(old || saved.recipe == now.recipe,
        "%s: was made with --recipe %s, this run has %s (give the same, or start another run from the weights learned so far: "
        "supra uptrain %s -o NEW_DIR --recipe %s ...)",
        where, saved.recipe.c_str(), now.recipe.c_str(), where, now.recipe.c_str());

  const char *before = saved.products.c_str(), *after = now.products.c_str();
  const bool other_products = saved.products != now.products;
  CHECK(!other_products || options.accept_products,
        "%s: was made with --products %s, this run has %s (give the same, or --products %s to continue with these)",
        where, before, after, after);

  std::vector<std::string> notes;
  if (other_products) notes.push_back(format("products are %s from here on, %s before", after, before));
  if (old) notes.push_back(format("%s: an older version wrote it, without its recipe and a hash of its text: they are not compared", where));
  CHECK(same_text(saved, now) || options.accept_changes,
        "%s: was trained on other text, or on the same files in another order%s: %ld tokens then, %ld now (give the same --data and "
        "--docs in the same order; or --accept-changes, to go on with this text)",
        where, old ? ", or by an older version, for which documents had no end" : "",
        static_cast<long>(saved.corpus_tokens), static_cast<long>(now.corpus_tokens));
  if (!same_text(saved, now)) {
    notes.push_back(format("other text from here on, %ld tokens, %ld before: it is read from row %ld of its own order on%s",
                           static_cast<long>(now.corpus_tokens), static_cast<long>(saved.corpus_tokens), static_cast<long>(state.position),
                           now.packing == "carried" ? ", and all rows begin with an empty state" : ""));
  }
  return notes;
}

}  // namespace supra
