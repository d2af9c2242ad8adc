#include "supra/training/teacher_cache.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/products.h"
#include "supra/linearize.h"
#include "supra/training/train.h"
#include "tests/support.h"
#include "tests/tiny_model.h"

namespace supra {
namespace {

class TeacherCacheTest : public testing::Test {
 protected:
  TeacherCacheTest() {
    // sharper logits, since a random teacher is sure of nothing; and no gradients
    teacher_.decoder->visit([](const std::string& name, Var& parameter) {
      if (name == "norm.weight") parameter.value().fill(6);
      parameter = Var(parameter.value());
    });
    corpus_ = corpus_of("a cat sat; an owl ran and ran.<end>yes<end>a dog and a cat, and many an owl in the tree; all sat.<end>");
  }

  Corpus corpus_of(const std::string& text) const {
    write_file_atomically(directory_.path() / "text.txt", text);
    return read_corpus({directory_.path() / "text.txt"}, *teacher_.tokenizer, "<end>");
  }

  Path file() const { return directory_.path() / "teacher.cache"; }

  std::shared_ptr<TeacherCache> cache(int64_t top, Packing packing = Packing::documents) const {
    return std::make_shared<TeacherCache>(file(), *teacher_.decoder, corpus_, top, 16, 7, packing);
  }

  Batch batch(Packing packing, int64_t skip = 0) const {
    BatchLoader loader(corpus_, 3, 16, 7, packing);
    loader.seek(skip);
    return loader.next();
  }

  // The loss of a batch and all gradients of a student, with a cache or without.
  std::pair<double, std::vector<Tensor>> learn(const Batch& batch, std::shared_ptr<TeacherCache> cache) const {
    Model student = linearize(teacher_, {}).model;
    RecipeOptions o;
    o.cache = std::move(cache);
    CarriedStates carried;
    const double loss = distill_stage(*student.decoder, *teacher_.decoder, o).learn(batch, 1, carried).item();
    std::vector<Tensor> gradients;
    student.decoder->visit([&](const std::string&, Var& parameter) { gradients.push_back(parameter.grad()); });
    return {loss, gradients};
  }

  // Trains a student on it and returns its weights.
  std::vector<Tensor> train_on(std::shared_ptr<TeacherCache> cache, int64_t accumulate = 1) const {
    TrainOptions o;
    o.recipe.kind = RecipeKind::distill;
    o.recipe.cache = std::move(cache);
    o.recipe.transfer_share = 0.25;
    o.recipe.calibrate_tokens = 64;
    o.packing = Packing::documents;
    o.accumulate = accumulate;
    o.sequence = 16;
    o.batch_tokens = 32;
    o.tokens = 32 * 8;
    o.seed = 7;
    Model student = linearize(teacher_, {}).model;
    train(student, teacher_.decoder.get(), corpus_, o, directory_.path() / "run");
    std::vector<Tensor> weights;
    student.decoder->visit([&](const std::string&, Var& parameter) { weights.push_back(parameter.value()); });
    return weights;
  }

  TempDir directory_;
  Model teacher_ = byte_model(MixerKind::softmax);
  Corpus corpus_;
};

bool same_bits(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Tensor& x, const Tensor& y) { return same_bits(x, y); });
}

TEST_F(TeacherCacheTest, WithEveryTokenNamedIsTheTeacher) {
  for (Packing packing : {Packing::stream, Packing::documents}) {
    const auto [expected, gradients] = learn(batch(packing), nullptr);
    const auto [loss, given] = learn(batch(packing), cache(256, packing));
    EXPECT_GT(expected, 0.1);
    EXPECT_NEAR(loss / expected, 1, 1e-4);
    for (size_t i = 0; i < given.size(); i++) {
      // half precision of log p; some have no gradient
      if (!gradients[i].defined()) continue;
      EXPECT_LT(difference(given[i], gradients[i]).normalised, 1e-3) << i;
    }
    std::filesystem::remove(file());
  }
}

// The divergence of softmax(t) from softmax(x), given t as the cache says it, against K + 1 classes by hand.
TEST_F(TeacherCacheTest, TeachesOneClassForTheTokensItDoesNotName) {
  constexpr int64_t O = 256, K = 5;
  const Batch one = batch(Packing::documents);
  const int64_t n = one.tokens.numel();
  const Tensor teacher = random_normal({n, O}, 1), student = random_normal({n, O}, 2), given = Tensor::empty({n, O});
  for (int64_t i = 0; i < n * O; i++) teacher.data<float>()[i] *= 3;
  const auto live = [&]() -> TeacherLogits {
    return [&](int64_t first, const Tensor&, const Tensor& logits) { logits.copy_from(teacher.rows(first, first + logits.dim(0))); };
  };
  // blocks that are no whole rows
  const auto written = cache(K);
  const TeacherLogits cached = written->logits(one, live);
  for (int64_t i = 0; i < n; i += 7) cached(i, student.rows(i, std::min(n, i + 7)), given.rows(i, std::min(n, i + 7)));

  const auto probabilities = [&](const Tensor& logits, int64_t row) {
    std::vector<double> p(logits.data<float>() + row * O, logits.data<float>() + (row + 1) * O);
    double sum = 0;
    for (double& x : p) sum += x = std::exp(x);
    for (double& x : p) x /= sum;
    return p;
  };
  for (int64_t row = 0; row < n; row++) {
    const std::vector<double> p = probabilities(teacher, row), q = probabilities(student, row), t = probabilities(given, row);
    std::vector<size_t> order(O);
    for (size_t o = 0; o < O; o++) order[o] = o;
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] > p[b]; });
    double expected = 0, r = 1, s = 1, divergence = 0;
    for (size_t k = 0; k < K; k++) {
      const size_t o = order[k];
      EXPECT_NEAR(t[o], p[o], 3e-4);
      expected += p[o] * std::log(p[o] / q[o]);
      r -= p[o];
      s -= q[o];
    }
    expected += r * std::log(r / s);
    for (size_t o = 0; o < O; o++) divergence += t[o] * std::log(t[o] / q[o]);
    EXPECT_NEAR(divergence, expected, 1e-3);
  }
}

TEST_F(TeacherCacheTest, SurvivesATeacherThatIsSure) {
  constexpr int64_t O = 256;
  const Batch one = batch(Packing::stream);
  const Tensor logits = Tensor::full({one.tokens.numel(), O}, -1e30);
  for (int64_t i = 0; i < logits.dim(0); i++) logits.data<float>()[i * O + 9] = 0;
  const auto live = [&]() -> TeacherLogits {
    return [&](int64_t first, const Tensor&, const Tensor& into) { into.copy_from(logits.rows(first, first + into.dim(0))); };
  };
  const Var h(random_normal({one.tokens.numel(), 4}, 1), true), w(random_normal({O, 4}, 2), true);
  const Var loss = linear_cross_entropy(h, w, one.targets.view({-1}), 0, {cache(3, Packing::stream)->logits(one, live), 1});
  const Var exact = cross_entropy(linear(h, w), Tensor::full({one.tokens.numel()}, 9, Dtype::i32));
  EXPECT_NEAR(loss.value().item(), exact.value().item(), 1e-5);
  backward(loss);
  EXPECT_TRUE(all_finite(h.grad()) && all_finite(w.grad()));
}

TEST_F(TeacherCacheTest, AReadingRunHasTheBitsOfTheWritingOne) {
  const std::vector<Tensor> written = train_on(cache(8));
  const std::string bytes = read_file(file());
  EXPECT_TRUE(same_bits(train_on(cache(8)), written));
  EXPECT_EQ(read_file(file()), bytes);
  EXPECT_FALSE(same_bits(train_on(nullptr), written));
}

TEST_F(TeacherCacheTest, TheTeacherRestsWhileItIsRead) {
  const Batch first = batch(Packing::documents), later = batch(Packing::documents, 3);
  const auto written = cache(8);
  const double loss = learn(first, written).first;
  learn(later, written);
  const auto reading = cache(8);
  const auto live = []() -> TeacherLogits { throw Error("the teacher ran"); };
  EXPECT_NO_THROW(reading->logits(first, live));
  EXPECT_NO_THROW(reading->logits(later, live));
  EXPECT_THROW(reading->logits(batch(Packing::documents, 6), live), Error);
  EXPECT_EQ(learn(first, reading).first, loss);
}

TEST_F(TeacherCacheTest, ServesBatchesInParts) {
  train_on(cache(8));
  const std::string bytes = read_file(file());
  train_on(cache(8), 2);
  EXPECT_EQ(read_file(file()), bytes);
}

TEST_F(TeacherCacheTest, AFileOfAKilledRunIsCompleted) {
  const std::vector<Tensor> written = train_on(cache(8));
  const std::string bytes = read_file(file());
  for (size_t cut : {size_t{48}, size_t{60}, bytes.size() / 2, bytes.size() - 1}) {
    write_file_atomically(file(), bytes.substr(0, cut));
    EXPECT_TRUE(same_bits(train_on(cache(8)), written)) << cut;
    EXPECT_EQ(read_file(file()), bytes) << cut;
  }
  std::string damaged = bytes;
  damaged[bytes.size() * 2 / 3] ^= 1;
  write_file_atomically(file(), damaged);
  EXPECT_TRUE(same_bits(train_on(cache(8)), written));
  EXPECT_EQ(read_file(file()), bytes);
}

TEST_F(TeacherCacheTest, RefusesAnotherRunByName) {
  cache(8);
  const auto complaint = [&](const Decoder& teacher, const Corpus& corpus, int64_t top, int64_t T, uint64_t seed, Packing packing) {
    try {
      TeacherCache(file(), teacher, corpus, top, T, seed, packing);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("nothing");
  };
  const Decoder& same = *teacher_.decoder;
  const Packing packing = Packing::documents;
  const auto expect = [&](const std::string& given, const std::string& name) {
    EXPECT_TRUE(given.starts_with(file().string()) && given.find(name) != std::string::npos) << given << ", expected " << name;
  };
  EXPECT_EQ(complaint(same, corpus_, 8, 16, 7, packing), "nothing");
  expect(complaint(same, corpus_, 9, 16, 7, packing), "another --teacher-top: 8, this run has 9");
  expect(complaint(same, corpus_, 8, 17, 7, packing), "another --seq-len");
  expect(complaint(same, corpus_, 8, 16, 8, packing), "another --seed");
  expect(complaint(same, corpus_, 8, 16, 7, Packing::stream), "another --pack");
  expect(complaint(same, corpus_, 8, 16, 7, Packing::carried), "continue from batch to batch");
  expect(complaint(same, corpus_, 0, 16, 7, packing), "--teacher-top 1 to 256");
  expect(complaint(same, corpus_of("a cat sat; an owl ran.<end>"), 8, 16, 7, packing), "another --data or --docs");
  expect(complaint(*byte_model(MixerKind::softmax, 6).decoder, corpus_, 8, 16, 7, packing), "another --teacher or --products,");
  {
    const UseProducts rounded(Products::bf16);
    expect(complaint(same, corpus_, 8, 16, 7, packing), "another --teacher or --products,");
  }
  expect(complaint(*tiny_decoder(MixerKind::softmax), corpus_, 8, 16, 7, packing), "another vocabulary");
  write_file_atomically(file(), "Once upon a time there was a file that was no cache at all.");
  expect(complaint(same, corpus_, 8, 16, 7, packing), "is not a teacher's cache");
}

TEST_F(TeacherCacheTest, RefusesRowsOfOtherText) {
  const auto written = cache(8);
  Batch one = batch(Packing::documents);
  learn(one, written);
  one.tokens.data<int32_t>()[20] ^= 1;
  EXPECT_THROW(learn(one, written), Error);
  one.tokens.data<int32_t>()[20] ^= 1;
  one.cuts[0] = {2};
  EXPECT_THROW(learn(one, written), Error);
}

}  // namespace
}  // namespace supra
