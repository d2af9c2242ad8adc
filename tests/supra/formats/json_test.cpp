#include "supra/formats/parse/json.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "supra/formats/parse/utf8.h"
#include "tests/fuzz_formats.h"
#include "tests/supra/formats/peak_memory.h"
#include "tests/support.h"

namespace supra {
namespace {

Json parse(std::string_view text) { return Json::parse(text, "t.json"); }

std::string complaint(std::string_view text) {
  return complaint_of([&] { parse(text); });
}

TEST(Json, ReadsEveryKindOfValue) {
  const Json json =
      parse(" {\"a\": [1, -2.5, 1e3, true, false, null], \"b\": {\"c\": \"x\"}, \"\": []}\r\n\t");
  const Json::Array& a = json.at("a").as_array();
  EXPECT_EQ(a.size(), 6u);
  EXPECT_EQ(a[0].as_integer(), 1);
  EXPECT_EQ(a[1].as_number(), -2.5);
  EXPECT_EQ(a[2].as_number(), 1000);
  EXPECT_FALSE(a[2].is_integer());
  EXPECT_TRUE(a[3].as_bool());
  EXPECT_FALSE(a[4].as_bool());
  EXPECT_TRUE(a[5].is_null());
  EXPECT_EQ(json.at("b").text("c"), "x");
  EXPECT_TRUE(json.at("").as_array().empty());
  EXPECT_EQ(json.as_object()[1].key, "b");
}

TEST(Json, IntegersOf64BitsStayExact) {
  for (const int64_t value :
       {INT64_MIN, INT64_MIN + 1, int64_t{-1}, int64_t{0}, (int64_t{1} << 53) + 1, INT64_MAX}) {
    EXPECT_EQ(parse(Json(value).dump()).as_integer(), value);
  }
  // beyond them they are doubles
  EXPECT_EQ(parse("9223372036854775808").as_number(), 0x1p63);
  EXPECT_FALSE(parse("9223372036854775808").is_integer());
}

TEST(Json, DoublesRoundTrip) {
  Philox random(1);
  for (int i = 0; i < 10000; i++) {
    const uint64_t bits = static_cast<uint64_t>(random.next()) << 32 | random.next();
    double value;
    memcpy(&value, &bits, sizeof value);
    if (!std::isfinite(value)) continue;
    const Json back = parse(Json(value).dump());
    EXPECT_FALSE(back.is_integer());
    EXPECT_EQ(back.as_number(), value);
  }
  EXPECT_EQ(Json(4096.0).dump(), "4096.0");
  EXPECT_TRUE(std::signbit(parse("-0").as_number()));
  EXPECT_THROW(Json(std::nan("")).dump(), Error);
  EXPECT_THROW(Json(std::numeric_limits<double>::infinity()).dump(), Error);
}

TEST(Json, StringsAreEscapedAndUnescaped) {
  EXPECT_EQ(parse(R"("\"\\\/\b\f\n\r\t\u0041\u00e9\u20ac\ud83d\ude00\u0000")").as_string(),
            std::string("\"\\/\b\f\n\r\tA\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\0", 19));
  std::string all;
  for (int c = 0; c < 128; c++) all += static_cast<char>(c);
  EXPECT_EQ(parse(Json(all).dump()).as_string(), all);
}

TEST(Json, RefusesWhatTheRfcDoesNotAllow) {
  for (const char* bad : {"",
                          " ",
                          "{",
                          "[",
                          "[1",
                          "[1,",
                          "[1,]",
                          "{\"a\"",
                          "{\"a\":",
                          "{\"a\":1",
                          "{\"a\":1,",
                          "{\"a\":1,}",
                          "{a:1}",
                          "{'a':1}",
                          "[1 2]",
                          "1 2",
                          "01",
                          "-",
                          "+1",
                          "1.",
                          ".5",
                          "1e",
                          "1e+",
                          "0x1",
                          "NaN",
                          "Infinity",
                          "-Infinity",
                          "nul",
                          "nulll",
                          "True",
                          "\"",
                          "\"a",
                          "\"\\\"",
                          "\"\\x\"",
                          "\"\\u12\"",
                          "\"\\u12g4\"",
                          "\"\\u+123\"",
                          "\"\t\"",
                          "\"\n\"",
                          "[}",
                          "{]",
                          "{\"a\":1]",
                          "//x\n1",
                          "/**/1",
                          "\xef\xbb\xbf"
                          "1",
                          "1e999",
                          "-1e999",
                          "[\"a\",\n4\n,1,"}) {
    EXPECT_NE(complaint(bad), "") << bad;
  }
}

TEST(Json, RefusesBrokenUtf8AndHalfSurrogates) {
  for (const char* bad : {"\x80", "\xc3", "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xe2\x82", "\xed\xa0\x80",
                          "\xed\xbf\xbf", "\xf0\x80\x80\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff",
                          "\\ud83d", "\\ud83dx", "\\ud83d\\n", "\\ud83d\\u0041", "\\ude00"}) {
    EXPECT_NE(complaint(format("\"%s\"", bad)), "") << bad;
  }
}

TEST(Utf8, EveryCodePointComesBack) {
  for (uint32_t c = 0; c <= 0x10ffff; c++) {
    std::string text;
    append_utf8(text, c);
    const bool surrogate = c >= 0xd800 && c < 0xe000;
    ASSERT_EQ(utf8_length(text), surrogate ? 0 : text.size()) << c;
  }
}

TEST(Json, ErrorsNameFileLineAndColumn) {
  EXPECT_EQ(complaint("{\n  \"a\": 1,\n  \"b\" 2\n}").substr(0, 11), "t.json:3:7:");
  EXPECT_EQ(complaint("[1, x]").substr(0, 11), "t.json:1:5:");
}

TEST(Json, ErrorsNameTheKeyAndBothTypes) {
  const Json json = parse("{\n\"hidden_size\": \"64\", \"x\": 1.5, \"none\": null}");
  EXPECT_EQ(complaint_of([&] { json.number("hidden_size"); }),
            "t.json:2: hidden_size is a string, a number is needed");
  EXPECT_EQ(complaint_of([&] { json.integer("x"); }), "t.json:2: x is a number, an integer is needed");
  EXPECT_EQ(complaint_of([&] { json.at("y"); }), "t.json:1: key y is missing");
  EXPECT_EQ(complaint_of([&] { json.at("x").at("y"); }), "t.json:2: value is a number, an object is needed");
  EXPECT_EQ(json.integer("none", 7), 7);
  EXPECT_EQ(json.integer("absent", 7), 7);
  EXPECT_EQ(json.number("x", 7), 1.5);
  EXPECT_THROW(json.integer("hidden_size", 7), Error);
}

TEST(Json, KeysThatStandTwiceAreRefused) {
  EXPECT_NE(complaint("{\"a\": 1, \"b\": 2, \"a\": 3}").find("\"a\" is repeated"), std::string::npos);
  EXPECT_NE(complaint("{\"a\": 1, \"\\u0061\": 3}"), "");
  EXPECT_EQ(complaint("[{\"a\": 1}, {\"a\": 1}]"), "");
}

TEST(Json, DepthIsBounded) {
  EXPECT_EQ(complaint(std::string(200, '[') + std::string(200, ']')), "");
  EXPECT_NE(complaint(std::string(201, '[') + std::string(201, ']')).find("deeper"), std::string::npos);
  EXPECT_NE(complaint(std::string(1000000, '[')), "");
  std::string objects;
  for (int i = 0; i < 1000000; i++) objects += "{\"\":";
  EXPECT_NE(complaint(objects), "");
}

// What json.h promises, of the texts that make the most of each byte.
TEST(Json, TakesAtMostTwentyTimesItsTextOfMemory) {
  const auto repeated = [](const std::string& element) {
    std::string text = "[";
    while (text.size() < 1 << 20) text += element + ",";
    text.back() = ']';
    return text;
  };
  std::string nested;
  for (int i = 0; i < 190; i++) nested += "{\"\":";
  nested += "0" + std::string(190, '}');
  for (const std::string& element :
       {std::string("0"), std::string("[]"), std::string("[0]"), std::string("\"\""), std::string("\"a\""),
        std::string("[\"a\"]"), std::string("{\"a\":0}"), std::string(190, '[') + std::string(190, ']'),
        nested}) {
    const std::string text = repeated(element);
    expect_takes_at_most(20, text, [&] { parse(text); });
  }
  std::string members = "{";
  for (int i = 0; members.size() < 1 << 20; i++) members += format("\"%x\":0,", static_cast<unsigned>(i));
  members.back() = '}';
  expect_takes_at_most(20, members, [&] { parse(members); });
  // what is no JSON takes no more
  for (const char* part : {",", "0,", "\"\",", "\"\":", "[", ":"}) {
    for (const char* begin : {"[", "{"}) {
      std::string text = begin;
      while (text.size() < 1 << 20) text += part;
      expect_takes_at_most(20, text, [&] { parse(text); });
    }
  }
}

TEST(Json, GrowsAndIsCopied) {
  Json list = Json::array();
  for (int i = 0; i < 1000; i++) {
    Json entry = Json::object();
    for (int k = 0; k < i % 7; k++) entry.set(std::to_string(k), Json::array({k, "text", Json()}));
    entry.set("0", i);
    list.push(std::move(entry));
  }
  Json copy = list;
  EXPECT_EQ(copy, list);
  copy.push(1);
  EXPECT_NE(copy, list);
  EXPECT_EQ(list.as_array().size(), 1000u);
  EXPECT_EQ(copy.as_array().size(), 1001u);
  EXPECT_EQ(copy.as_array()[999].integer("0"), 999);
  // what was read has room for itself alone, and grows too
  Json read = parse("[1, 2, 3]");
  for (int i = 4; i < 20; i++) read.push(i);
  EXPECT_EQ(read.dump(), "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]");
  read = Json(read.as_array()[2]);
  EXPECT_EQ(read.as_integer(), 3);
  EXPECT_EQ(read.where(), "t.json:1");
}

TEST(Json, WritesInOneLineAndIndented) {
  Json json = Json::object();
  json.set("b", 1);
  json.set("a", Json::array({Json(), true, "x"}));
  json.set("empty", Json::object());
  json.set("b", 2.5);
  EXPECT_EQ(json.dump(), R"({"b": 2.5, "a": [null, true, "x"], "empty": {}})");
  EXPECT_EQ(json.dump(true),
            "{\n  \"b\": 2.5,\n  \"a\": [\n    null,\n    true,\n    \"x\"\n  ],\n  \"empty\": {}\n}");
  EXPECT_EQ(parse(json.dump(true)), json);
}

TEST(Json, SurvivesDamage) {
  const std::string text = R"({"a": [1, -2.5e-3, true, null, "\u00e9\ud83d\ude00 text"], )"
                           R"("b": {"c": {"d": []}}, "e": 9223372036854775807})";
  ASSERT_EQ(fuzz_json(text), "");
  for (size_t n = 0; n < text.size(); n++) EXPECT_NE(fuzz_json(text.substr(0, n)), "") << n;
  Philox random(2);
  const std::string_view likely = "\"\\{}[],:019-.eEtfnu \x80\xff\n";
  for (int i = 0; i < 20000; i++) {
    std::string damaged = text;
    for (uint64_t k = random.below(4) + 1; k > 0; k--) {
      damaged[random.below(damaged.size())] = likely[random.below(likely.size())];
    }
    const std::string complaint = fuzz_json(damaged);
    EXPECT_TRUE(complaint.empty() || complaint.starts_with("fuzz.json:")) << complaint;
  }
}

}  // namespace
}  // namespace supra
