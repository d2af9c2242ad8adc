#include <gtest/gtest.h>

#include "kernels/ops.h"
#include "tests/support.h"

// Values and errors of the operations that move data and multiply matrices; tools/bench/ops_table.cpp proves their
// gradients.

namespace supra {

static std::vector<float> values(const Var& v) {
  const float* data = v.value().data<float>();
  return {data, data + v.numel()};
}

// 0, 1, 2, ...
static Var counted(const Shape& shape) {
  const Tensor t = Tensor::empty(shape);
  for (int64_t i = 0; i < t.numel(); i++) t.data<float>()[i] = static_cast<float>(i);
  return Var(t);
}

static std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(LayoutTest, columns_and_heads_go_where_they_belong) {
  const std::vector<Var> parts = split_columns(counted({2, 5}), {2, 0, 3});
  EXPECT_EQ(values(parts[0]), (std::vector<float>{0, 1, 5, 6}));
  EXPECT_EQ(parts[1].shape(), (Shape{2, 0}));
  EXPECT_EQ(values(parts[2]), (std::vector<float>{2, 3, 4, 7, 8, 9}));
  EXPECT_EQ(values(concat_columns(parts)), values(counted({2, 5})));
  EXPECT_EQ(values(repeat_heads(counted({1, 1, 2, 2}), 2)), (std::vector<float>{0, 1, 0, 1, 2, 3, 2, 3}));
  EXPECT_EQ(reshape(counted({2, 6}), {3, -1}).shape(), (Shape{3, 4}));
}

TEST(LayoutTest, layout_errors_name_what_was_given) {
  EXPECT_NE(error_of([] { split_columns(counted({2, 5}), {2, 2}); }).find("(2, 5)"), std::string::npos);
  EXPECT_THROW(split_columns(counted({2, 5}), {6, -1}), Error);
  EXPECT_THROW(concat_columns({}), Error);
  EXPECT_THROW(concat_columns({counted({2, 5}), counted({3, 5})}), Error);
  EXPECT_THROW(concat_columns({counted({2, 5}), Var(Tensor::zeros({2, 5}, Dtype::f64))}), Error);
  EXPECT_THROW(repeat_heads(counted({2, 2, 5}), 2), Error);
  EXPECT_THROW(repeat_heads(counted({1, 2, 2, 5}), 0), Error);
  EXPECT_THROW(reshape(counted({2, 5}), {3, 3}), Error);
}

TEST(LayoutTest, embedding_checks_its_ids) {
  const Var w = counted({3, 2});
  EXPECT_EQ(values(embedding(Tensor::of<int32_t>({2, 0}), w)), (std::vector<float>{4, 5, 0, 1}));
  EXPECT_EQ(embedding(Tensor::zeros({2, 0}, Dtype::i32), w).shape(), (Shape{2, 0, 2}));
  EXPECT_NE(error_of([&] {
              embedding(Tensor::of<int32_t>({0, 3}), w);
            }).find("id 3 at position 1"),
            std::string::npos);
  EXPECT_THROW(embedding(Tensor::of<int32_t>({-1}), w), Error);
  EXPECT_THROW(embedding(Tensor::of<int64_t>({1}), w), Error);
  EXPECT_THROW(embedding(Tensor::of<int32_t>({0}), counted({6})), Error);
}

TEST(LayoutTest, rows_come_from_several_sources) {
  const std::vector<Var> sources = {Var(counted({2, 2}).value(), true), counted({0, 2}),
                                    Var(Tensor::of<float>({7, 8}, {1, 2}), true)};
  const Var y = take_rows(sources, {2, -1, 0, 0, 0});
  EXPECT_EQ(values(y), (std::vector<float>{7, 8, 0, 0, 0, 1, 0, 1, 0, 1}));
  // f32 tells in which order they are added
  backward(y, Tensor::of<float>({1, 2, 3, 4, 1e9, 1e9, 1, -1e9, -1e9, 1}, {5, 2}));
  EXPECT_EQ(values(Var(sources[0].grad())), (std::vector<float>{0, 1, 0, 0}));
  EXPECT_EQ(values(Var(sources[2].grad())), (std::vector<float>{1, 2}));
  EXPECT_EQ(take_rows({counted({0, 3})}, {}).shape(), (Shape{0, 3}));
  EXPECT_EQ(values(take_rows({counted({0, 3})}, {-1})), (std::vector<float>{0, 0, 0}));
  const Tensor halves = Tensor::of<float>({0.5, 3}, {2, 1}).to(Dtype::f16);
  EXPECT_TRUE(same_bits(take_rows({Var(halves)}, {1, 0, -1}).value(),
                        Tensor::of<float>({3, 0.5, 0}, {3, 1}).to(Dtype::f16)));
}

TEST(LayoutTest, take_rows_checks_its_index) {
  const Var x = counted({3, 2});
  EXPECT_NE(error_of([&] { take_rows({x, x}, {5, 6}); }).find("index 6 at position 1"), std::string::npos);
  EXPECT_THROW(take_rows({x}, {-2}), Error);
  EXPECT_THROW(take_rows({}, {}), Error);
  EXPECT_THROW(take_rows({counted({6})}, {0}), Error);
  EXPECT_NE(error_of([&] { take_rows({x, counted({2, 3})}, {0}); }).find("source 1 is (2, 3)"), std::string::npos);
  EXPECT_THROW(take_rows({x, Var(Tensor::zeros({3, 2}, Dtype::f64))}, {0}), Error);
}

TEST(LayoutTest, linear_takes_any_rows_and_names_both_shapes) {
  EXPECT_EQ(values(linear(counted({1, 2}), counted({2, 2}), counted({2}))), (std::vector<float>{1, 4}));
  EXPECT_EQ(linear(counted({2}), counted({3, 2})).shape(), (Shape{3}));
  EXPECT_EQ(linear(counted({0, 4, 2}), counted({3, 2})).shape(), (Shape{0, 4, 3}));
  EXPECT_EQ(values(linear(counted({2, 0}), counted({1, 0}))), (std::vector<float>{0, 0}));
  const std::string error = error_of([] { linear(counted({2, 5}), counted({3, 4})); });
  EXPECT_NE(error.find("(3, 4)"), std::string::npos) << error;
  EXPECT_NE(error.find("(2, 5)"), std::string::npos) << error;
  EXPECT_THROW(linear(counted({2, 5}), counted({3, 5}), counted({4})), Error);
  EXPECT_THROW(linear(counted({2, 5}), Var(Tensor::zeros({3, 5}, Dtype::i8))), Error);
  EXPECT_THROW(matmul(counted({2, 3}), counted({2, 3})), Error);
  EXPECT_EQ(values(matmul(counted({2, 0}), counted({0, 2}))), (std::vector<float>{0, 0, 0, 0}));
}

}  // namespace supra
