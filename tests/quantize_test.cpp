#include <gtest/gtest.h>

#include "kernels/simd.h"
#include "supra/evaluation/perplexity.h"
#include "supra/formats/safetensors.h"
#include "supra/inference/session.h"
#include "tensor/quantized.h"
#include "tests/fuzz_formats.h"
#include "tests/support.h"
#include "tests/tiny_model.h"
#include "tools/command.h"

// Weights in their own dtype: how they are stored, what is computed with them, and whole models of them.

namespace supra {
namespace {

void expect_said(const std::string& complaint, const std::string& part) {
  EXPECT_NE(complaint.find(part), std::string::npos) << "\"" << complaint << "\" does not say " << part;
}

const Dtype kQuantized[] = {Dtype::q8_0, Dtype::q4_0, Dtype::q4_1};
const Dtype kStored[] = {Dtype::f32, Dtype::f16, Dtype::bf16, Dtype::q8_0, Dtype::q4_0, Dtype::q4_1};

TEST(QuantizeTest, a_row_is_laid_out_as_documented) {
  EXPECT_EQ(row_bytes(Dtype::q8_0, 96), 102u);
  EXPECT_EQ(row_bytes(Dtype::q4_0, 96), 54u);
  EXPECT_EQ(row_bytes(Dtype::q4_1, 96), 60u);
  EXPECT_EQ(row_bytes(Dtype::f16, 33), 66u);
  expect_said(complaint_of([] { row_bytes(Dtype::q4_0, 33); }), "q4_0: a row of 33 elements");
  expect_said(complaint_of([] { size_of(Dtype::q8_0); }), "q8_0: an element has no size");

  // three blocks, a pair and one alone, of which each element is another multiple of the scale
  std::vector<float> x(96);
  for (int i = 0; i < 96; i++)
    x[i] = static_cast<float>((i * 7 + i / 16) % 16 - 8) * (i < 32 ? 0.5f : i < 64 ? 0.25f : 2);
  std::vector<uint8_t> row(54);
  quantize_row(row.data(), Dtype::q4_0, x.data(), 96);
  const auto q = [&](int i) { return (i * 7 + i / 16) % 16; };
  for (int i = 0; i < 32; i++) EXPECT_EQ(row[i], q(i) | q(i + 32) << 4) << i;
  for (int i = 0; i < 16; i++) EXPECT_EQ(row[32 + i], q(64 + i) | q(80 + i) << 4) << i;
  const uint16_t scales[] = {f32_to_f16(0.5f), f32_to_f16(0.25f), f32_to_f16(2)};
  EXPECT_EQ(memcmp(row.data() + 48, scales, 6), 0);
}

// Half a step, and the rounding of the scale to 11 bits, which 127 (or 15) steps multiply.
double bound(Dtype dtype, const float* block) {
  const auto [least, most] = std::minmax_element(block, block + kBlock);
  const double size = std::max(std::fabs(*least), std::fabs(*most)), half = std::exp2(-11);
  if (dtype == Dtype::q8_0) return size * (0.5 / 127 + half);
  // the element opposite of the largest may need a ninth step
  if (dtype == Dtype::q4_0) return size * (1.0 / 8 + half);
  return (*most - *least) * (0.5 / 15 + half) + size * half;
}

TEST(QuantizeTest, values_come_back_within_half_a_step) {
  const Tensor x = random_normal({7, 288}, 3);
  for (int i = 0; i < 32; i++) x.data<float>()[i] = 0, x.data<float>()[32 + i] = 5;
  for (Dtype dtype : kQuantized) {
    const Tensor packed = x.to(dtype), back = packed.to(Dtype::f32);
    EXPECT_EQ(packed.shape(), x.shape());
    EXPECT_EQ(packed.bytes(), 7 * row_bytes(dtype, 288));
    for (int64_t i = 0; i < x.numel(); i++) {
      const double limit = bound(dtype, x.data<float>() + i / kBlock * kBlock);
      ASSERT_LE(std::fabs(back.data<float>()[i] - x.data<float>()[i]), limit * 1.0001)
          << name(dtype) << " " << i;
    }
    EXPECT_TRUE(same_bits(packed.rows(2, 5).to(Dtype::f32), back.rows(2, 5).clone()));
    EXPECT_TRUE(same_bits(packed.view({7, 1, 288}).clone().to(Dtype::f32).view({7, 288}), back));
    EXPECT_NE(complaint_of([&] { packed.view({288, 7}); }), "");
    expect_said(complaint_of([&] { Tensor::full({1, 32}, 1e30).to(dtype); }), "exceeds its f16 scale");
  }
}

// Every half there is, and every quantised row, exactly; whatever the level.
TEST(QuantizeTest, to_f32_is_exact_at_every_level) {
  const RestoreMachine restore;
  const Tensor x = random_normal({5, 96}, 4);
  std::vector<uint16_t> halves(1 << 16);
  for (size_t i = 0; i < halves.size(); i++) halves[i] = static_cast<uint16_t>(i);
  for (CpuLevel level : cpu_levels()) {
    set_cpu_level(level);
    for (Dtype dtype : {Dtype::f16, Dtype::bf16}) {
      std::vector<float> wide(halves.size());
      // an odd beginning, and a tail
      simd().to_f32(wide.data() + 1, halves.data() + 1, dtype, 65535);
      for (size_t i = 1; i < halves.size(); i++) {
        const float expected = dtype == Dtype::f16 ? f16_to_f32(halves[i]) : bf16_to_f32(halves[i]);
        const bool same = std::isnan(expected) ? std::isnan(wide[i]) : memcmp(&wide[i], &expected, 4) == 0;
        ASSERT_TRUE(same) << name(level) << " " << name(dtype) << " " << i << " " << wide[i];
      }
    }
    for (Dtype dtype : kQuantized) {
      const Tensor packed = x.to(dtype), wide = Tensor::empty(x.shape());
      for (int64_t i = 0; i < 5; i++)
        simd().to_f32(wide.data<float>() + i * 96, packed.rows(i, i + 1).raw(), dtype, 96);
      EXPECT_TRUE(same_bits(wide, packed.to(Dtype::f32))) << name(level) << " " << name(dtype);
    }
  }
}

TEST(QuantizeTest, linear_agrees_with_f64_on_the_dequantised_weights) {
  const RestoreMachine restore;
  set_poison(true);
  for (Dtype dtype : kStored) {
    for (int64_t C : {32, 64, 96, 288, 768, 33}) {
      if (C % kBlock != 0 && is_quantized(dtype)) continue;
      const Tensor w = random_normal({203, C}, 5).to(dtype), exact = w.to(Dtype::f64),
                   bias = random_normal({203}, 6);
      for (int64_t M : {1, 2, 3, 4, 5, 9}) {
        const Tensor x = random_normal({M, C}, 7);
        for (CpuLevel level : cpu_levels()) {
          set_cpu_level(level);
          Tensor first;
          for (int count : {1, 2, 3}) {
            set_threads(count);
            const Tensor y = linear(Var(x), Var(w), Var(bias)).value();
            ASSERT_TRUE(!first.defined() || same_bits(y, first)) << count << " threads";
            first = y;
          }
          for (int64_t i = 0; i < first.numel(); i++) {
            const int64_t m = i / 203, o = i % 203;
            double sum = bias.data<float>()[o], size = std::fabs(sum), loss = 0, largest = 0;
            for (int64_t k = 0; k < C; k++) {
              const double weight = exact.data<double>()[o * C + k], value = x.data<float>()[m * C + k];
              sum += weight * value;
              size += std::fabs(weight * value);
              if (k % kBlock == 0) {
                largest = 0;
                for (int64_t j = k; j < std::min(C, k + kBlock); j++) {
                  largest = std::max(largest, std::fabs(static_cast<double>(x.data<float>()[m * C + j])));
                }
              }
              loss += std::fabs(weight) * largest * 1.5001 / 32512;
            }
            const bool integer = is_quantized(dtype) && M <= 4;
            // the parts that a shift of eight or a minimum adds and takes away again are larger than the
            // result
            const double limit = integer ? loss + 64 * kEps * size : 4 * kEps * size;
            ASSERT_LE(std::fabs(first.data<float>()[i] - sum), limit)
                << name(dtype) << " " << name(level) << " M " << M << " C " << C << " at " << m << ", " << o;
          }
        }
      }
    }
  }
}

// The bound above is the worst case; errors of rounding cancel.
TEST(QuantizeTest, integer_dots_lose_little) {
  const RestoreMachine restore;
  const Tensor x = random_normal({4, 1024}, 8), raw = random_normal({500, 1024}, 9);
  for (Dtype dtype : kQuantized) {
    const Tensor w = raw.to(dtype);
    const Tensor reference = linear(Var(x.to(Dtype::f64)), Var(w.to(Dtype::f64))).value();
    for (CpuLevel level : cpu_levels()) {
      set_cpu_level(level);
      EXPECT_LT(difference(linear(Var(x), Var(w)).value(), reference).normalised, 4e-5)
          << name(dtype) << " " << name(level);
    }
  }
}

TEST(QuantizeTest, a_nan_is_not_hidden_by_integers) {
  const RestoreMachine restore;
  for (CpuLevel level : cpu_levels()) {
    set_cpu_level(level);
    for (float bad : {NAN, INFINITY}) {
      const Tensor x = random_normal({1, 64}, 8);
      x.data<float>()[7] = bad;
      EXPECT_FALSE(
          std::isfinite(linear(Var(x), Var(random_normal({1, 64}, 9).to(Dtype::q8_0))).value().item()));
    }
  }
}

TEST(QuantizeTest, a_weight_that_is_nan_is_refused) {
  const Tensor w = random_normal({2, 64}, 8);
  w.data<float>()[70] = NAN;
  for (Dtype dtype : {Dtype::q8_0, Dtype::q4_0, Dtype::q4_1}) EXPECT_THROW(w.to(dtype), Error) << name(dtype);
}

TEST(QuantizeTest, what_has_no_gradient_says_so) {
  const Tensor w = random_normal({8, 32}, 1), ids = Tensor::of<int32_t>({7, 0, 3});
  const Var x(random_normal({2, 32}, 2), true);
  for (Dtype dtype : {Dtype::f16, Dtype::bf16, Dtype::q8_0, Dtype::q4_0, Dtype::q4_1}) {
    const Var stored(w.to(dtype));
    expect_said(complaint_of([&] { linear(x, stored); }), format("linear with weights in %s", name(dtype)));
    expect_said(complaint_of([&] { embedding(ids, Var(stored.value(), true)); }),
                format("embedding with weights in %s", name(dtype)));
    const Tensor rows = embedding(ids, stored).value();
    EXPECT_TRUE(same_bits(rows.rows(0, 1).clone(), stored.value().to(Dtype::f32).rows(7, 8).clone()));
    EXPECT_TRUE(same_bits(rows.rows(2, 3).clone(), stored.value().to(Dtype::f32).rows(3, 4).clone()));
  }
  expect_said(complaint_of([&] {
                linear(x, Var(Tensor::zeros({8, 32}, Dtype::i8)));
              }),
              "linear: weights in i8");
}

Model small_model(MixerKind mixer, bool per_head = false, int64_t kv_heads = 2) {
  Config c = block_config({"", mixer});
  c.kv_heads = kv_heads;
  c.per_head_feature_map = per_head;
  Model model;
  model.decoder = make_decoder(c);
  model.decoder->init_weights(3);
  return model;
}

std::vector<Var> parameters(Decoder& decoder) {
  std::vector<Var> all;
  decoder.visit([&](const std::string&, Var& p) { all.push_back(p); });
  return all;
}

// logits (9,O) of ids that go in at once, and of the last one alone
std::vector<Tensor> run(const Model& model) {
  Session session(*model.decoder);
  const std::vector<int32_t> ids = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9};
  session.feed(ids);
  const Tensor prefill = session.logits();
  return {prefill, session.step(std::vector<int32_t>{11})};
}

TEST(QuantizeTest, a_model_is_the_same_from_its_file) {
  for (const MixerVariant& variant : mixer_variants()) {
    SCOPED_TRACE(variant.name);
    for (Dtype dtype : kStored) {
      const TempDir directory;
      Model model;
      model.decoder = stirred_decoder(block_config(variant));
      const std::vector<Tensor> plain = run(model);
      EXPECT_TRUE(quantize(*model.decoder, dtype).empty());
      const Path folder = directory.path() / "model";
      save_model(model, folder, std::nullopt);
      reset_peak();
      const size_t before = memory_stats().current;
      const Model back = load_model(folder, "", Weights::stored);
      const std::vector<Var> given = parameters(*model.decoder), read = parameters(*back.decoder);
      ASSERT_EQ(given.size(), read.size());
      for (size_t i = 0; i < given.size(); i++) {
        EXPECT_TRUE(same_bits(given[i].value(), read[i].value())) << name(dtype) << " " << i;
        const Dtype expected = read[i].dtype() == Dtype::f32 ? Dtype::f32 : dtype;
        EXPECT_EQ(read[i].dtype(), expected);
      }
      // the decay of a layer with states per head, and no weight
      EXPECT_LE(memory_stats().peak - before, has_head_state(variant.kind) ? 128 : 0) << name(dtype);
      const std::vector<Tensor> here = run(model), there = run(back);
      for (size_t i = 0; i < 2; i++) {
        EXPECT_TRUE(same_bits(here[i], there[i]));
        if (is_unbounded(model.config())) continue;
        const double loss = difference(here[i], plain[i]).normalised;
        EXPECT_LT(loss, dtype == Dtype::f32    ? 1e-30
                        : dtype == Dtype::f16  ? 5e-3
                        : dtype == Dtype::q8_0 ? 0.1
                        : is_quantized(dtype)  ? 0.7
                                               : 1.5e-2)
            << name(dtype);
      }
      // training on it goes on from the values it has
      const std::vector<Var> copies = parameters(*load_model(folder).decoder);
      for (size_t i = 0; i < given.size(); i++)
        EXPECT_TRUE(same_bits(copies[i].value(), given[i].value().to(Dtype::f32)));
    }
  }
}

TEST(QuantizeTest, odd_rows_stay_bf16) {
  Model model;
  model.decoder = tiny_decoder(MixerKind::supra);
  const std::vector<std::string> kept = quantize(*model.decoder, Dtype::q4_0);
  EXPECT_EQ(std::count(kept.begin(), kept.end(), "layers.1.feed_forward.w3.weight"), 1);
  model.decoder->visit([](const std::string& name, Var& p) {
    const bool map = name.find("_totrain_embed") != std::string::npos;
    EXPECT_EQ(p.dtype(), p.shape().size() == 2 && !map ? Dtype::bf16 : Dtype::f32) << name;
  });
  EXPECT_TRUE(all_finite(run(model)[1]));
}

TEST(QuantizeTest, damaged_files_are_refused) {
  const TempDir directory;
  Model model = small_model(MixerKind::supra);
  quantize(*model.decoder, Dtype::q8_0);
  save_model(model, directory.path() / "model", std::nullopt);
  const Path file = directory.path() / "model/model.safetensors";
  const std::string good = read_file(file);
  const auto complaint = [&](std::string bytes) {
    write_bytes(file, bytes);
    return complaint_of([&] { load_model(directory.path() / "model", "", Weights::stored); });
  };
  EXPECT_EQ(complaint(good), "");
  expect_said(complaint(good.substr(0, good.size() - 7)), "cut short");
  std::string bad = good;
  const size_t at = bad.find("\"q8_0\"");
  EXPECT_EQ(bad.compare(at, 6, "\"q8_0\""), 0);
  bad.replace(at, 6, "\"q4_0\"");
  expect_said(complaint(bad), "q4_0");
  // the last bytes of the file are scales
  bad = good;
  bad.replace(bad.size() - 2, 2, "\xff\x7f");
  expect_said(complaint(bad), "holds a NaN or an infinity");
}

TEST(QuantizeTest, folding_the_feature_maps_is_exact) {
  for (bool per_head : {false, true}) {
    for (int64_t kv_heads : {4, 2}) {
      Model model = small_model(MixerKind::supra, per_head, kv_heads);
      Philox random(1);
      model.decoder->visit([&](const std::string& name, Var& p) {
        if (name.find("_totrain_embed") == std::string::npos) return;
        for (int64_t i = 0; i < p.numel(); i++)
          p.value().data<float>()[i] += static_cast<float>(0.1 * random.normal());
      });
      const TempDir directory;
      save_model(model, directory.path() / "model");
      const std::vector<Tensor> plain = run(model);
      const Model folded = load_model(directory.path() / "model", "", Weights::folded);
      EXPECT_TRUE(folded.folded);
      EXPECT_LT(folded.decoder->parameter_count(), model.decoder->parameter_count());
      const std::vector<Tensor> merged = run(folded);
      for (size_t i = 0; i < 2; i++) EXPECT_LT(difference(merged[i], plain[i]).largest, 1e-5);
      expect_said(complaint_of([&] { save_model(folded, directory.path() / "other"); }), "folded");
      // where weights are not f32, nothing is folded
      quantize(*model.decoder, Dtype::q8_0);
      EXPECT_FALSE(model.decoder->fold());
    }
  }
  EXPECT_FALSE(small_model(MixerKind::softmax).decoder->fold());
}

TEST(QuantizeTest, every_mixer_folds_or_stays_as_it_is) {
  for (const MixerVariant& variant : mixer_variants()) {
    SCOPED_TRACE(variant.name);
    Model model;
    model.decoder = stirred_decoder(block_config(variant));
    const std::vector<Tensor> plain = run(model);
    const Config& c = model.config();
    EXPECT_EQ(model.decoder->fold(), has_head_state(variant.kind) && c.feature_map && !c.rope_before_map && c.qkv_clip == 0);
    const std::vector<Tensor> merged = run(model);
    for (size_t i = 0; i < 2; i++) EXPECT_LT(difference(merged[i], plain[i]).largest, 2e-5);
  }
}

TEST(QuantizeTest, a_trained_model_says_about_the_same) {
  const Path folder = shared_dir() / "models/stories260K",
             text = shared_dir() / "data/tinystories/uptrain_valid.txt";
  SKIP_WITHOUT(folder);
  SKIP_WITHOUT(text);
  Model model = load_model(folder / "stories260K.bin", folder / "tok512.model", Weights::stored);
  TextOptions options;
  options.max_tokens = 2000;
  const auto sequences = scoring_sequences(tokenizer_of(model), MappedFile(text).text(), options);
  const double before = evaluate(*model.decoder, sequences).nll;
  // of 64 columns, a hundred times fewer than what four bits are made for
  for (const auto& [dtype, loss] : {std::pair(Dtype::f16, 0.001),
                                    {Dtype::bf16, 0.01},
                                    {Dtype::q8_0, 0.01},
                                    {Dtype::q4_1, 0.2},
                                    {Dtype::q4_0, 0.25}}) {
    Model smaller = load_model(folder / "stories260K.bin", folder / "tok512.model", Weights::stored);
    quantize(*smaller.decoder, dtype);
    EXPECT_NEAR(evaluate(*smaller.decoder, sequences).nll, before, loss) << name(dtype);
    EXPECT_NEAR(evaluate(*smaller.decoder, sequences, true).nll, before, loss)
        << name(dtype) << ", step by step";
  }
}

}  // namespace
}  // namespace supra
