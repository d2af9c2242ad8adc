#include <gtest/gtest.h>

#include "supra/tokenizers/shard.h"
#include "supra/training/self_data.h"
#include "tests/support.h"
#include "tests/tiny_model.h"

namespace supra {
namespace {

Source sampled(const Model& teacher, const TempDir& directory, int64_t tokens, uint64_t seed) {
  const Path shard = directory.path() / "self.bin";
  write_self_data(shard, *teacher.decoder, *teacher.tokenizer, tokens, seed, [](int64_t) {});
  return read_shard(shard, *teacher.tokenizer);
}

std::vector<int32_t> ids_of(const Source& source) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < source.tokens(); i++) ids.push_back(source.id(i));
  return ids;
}

// A softmax teacher (with a cache that grows) and a recurrent one.
TEST(SelfData, IsDocumentsOfTheTeachersTokens) {
  for (const MixerKind mixer : {MixerKind::softmax, MixerKind::supra}) {
    const TempDir directory;
    const Model teacher = byte_model(mixer);
    const int64_t context = teacher.config().context;
    const Source source = sampled(teacher, directory, 5000, 1);
    EXPECT_NEAR(static_cast<double>(source.tokens()), 5000, 200);
    EXPECT_GT(source.documents(), 5000 / context);
    int64_t all_ended = 0, unfinished = 0;
    for (int64_t d = 0; d < source.documents(); d++) {
      const int64_t begin = source.start(d), end = source.start(d + 1);
      EXPECT_EQ(source.id(begin), teacher.tokenizer->bos());
      const bool ended = source.id(end - 1) == source.marks().end;
      EXPECT_LE(end - begin, context + ended);
      EXPECT_GE(end - begin, 2 + ended);
      for (int64_t i = begin + 1; i < end - ended; i++) EXPECT_NE(source.id(i), teacher.tokenizer->bos());
      // those that reached the context, and those under way at the end, have none
      if (end - begin < context) unfinished += !ended;
      all_ended += ended;
    }
    EXPECT_GT(all_ended, 0);
    EXPECT_LE(unfinished, 32);
    EXPECT_EQ(ids_of(sampled(teacher, directory, 5000, 1)), ids_of(source));
    EXPECT_NE(ids_of(sampled(teacher, directory, 5000, 2)), ids_of(source));
  }
}

// Documents that begin where another one ended have seen nothing of it: the teacher finds its own text as likely as it
// expects to, entropy for entropy.
TEST(SelfData, HasTheTeachersDistribution) {
  const TempDir directory;
  const Model teacher = byte_model(MixerKind::softmax);
  const Source source = sampled(teacher, directory, 20000, 3);
  double surprise = 0, entropy = 0;
  int64_t n = 0;
  for (int64_t d = 0; d < source.documents(); d++) {
    std::vector<int32_t> ids;
    for (int64_t i = source.start(d); i < source.start(d + 1); i++) ids.push_back(source.id(i));
    if (ids.back() == source.marks().end) ids.pop_back();
    const int64_t T = static_cast<int64_t>(ids.size()) - 1, O = teacher.config().vocab;
    const Tensor tokens = Tensor::of(std::vector<int32_t>(ids.begin(), ids.end() - 1), {1, T});
    const Tensor logits = teacher.decoder->logits(teacher.decoder->hidden(tokens)).value();
    for (int64_t t = 0; t < T; t++) {
      // among the ids that do not end the document
      const float* row = logits.data<float>() + t * O;
      double total = 0, mean = 0;
      for (int64_t o = 1; o < O; o++) total += std::exp(row[o]);
      for (int64_t o = 1; o < O; o++) mean += std::exp(row[o]) / total * (std::log(total) - row[o]);
      surprise += std::log(total) - row[ids[t + 1]];
      entropy += mean;
      n++;
    }
  }
  EXPECT_NEAR(surprise / static_cast<double>(n), entropy / static_cast<double>(n), 0.03);
}

TEST(SelfData, RefusesATokenizerOfAnotherTeacher) {
  const TempDir directory;
  Model teacher = byte_model(MixerKind::softmax);
  teacher.decoder = tiny_decoder(MixerKind::softmax);
  EXPECT_THROW(sampled(teacher, directory, 100, 1), Error);
  EXPECT_FALSE(std::filesystem::exists(directory.path() / "self.bin"));
}

}  // namespace
}  // namespace supra
