#include "tools/args.h"

#include <gtest/gtest.h>

#include "tensor/parallel.h"

namespace supra {
namespace {

using Words = std::vector<std::string>;

enum class Colour { red, green };

// A command with a flag of every type.
struct Everything {
  std::string model, prompt = "hello";
  Path out;
  int64_t lines = 10, budget = 3000000;
  std::optional<int64_t> limit;
  double rate = 3e-4;
  uint64_t seed = 1;
  bool json = false;
  std::optional<bool> bos;
  std::vector<int64_t> ids;
  Words stop;
  std::vector<Path> data = {"default.txt"}, rest;
  Colour colour = Colour::red;
  std::string usage, help;

  void parse(Words words) {
    Args args("everything", "does all of it", std::move(words));
    args.positional(&model, "MODEL", "a model");
    args.optional_positional(&rest, "FILE", "more files");
    args.flag(&prompt, "--prompt -p", "TEXT", "where to begin");
    args.flag(&out, "--output -o", "DIR", "where to write").required();
    args.flag(&lines, "--lines -n", "N", "how many lines").at_least(1);
    args.tokens(&budget, "--tokens", "how many tokens");
    args.flag(&limit, "--limit", "N", "how many items").at_least(0);
    args.flag(&rate, "--lr", "X", "the rate");
    args.flag(&seed, "--seed", "N", "the seed");
    args.flag(&json, "--json", "as JSON");
    args.flag(&bos, "--bos", "begin with BOS or not");
    args.flag(&ids, "--ids", "1,2,3", "token ids");
    args.flag(&stop, "--stop", "S", "strings that end it");
    args.flag(&data, "--data", "FILE", "what to read");
    args.choice(&colour, "--colour", {{"red", Colour::red}, {"green", Colour::green}}, "which one");
    usage = args.usage();
    help = args.help();
    args.parse();
  }
};

std::string usage_error(Words words) {
  Everything e;
  try {
    e.parse(std::move(words));
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Args, ReadsEveryType) {
  Everything e;
  e.parse({"--lines=3", "model.gguf", "-o",    "out/dir", "-p",       "a b",    "--tokens",
           "1.5M",      "--limit",    "0",     "--lr",    "1e-3",     "--seed", "18446744073709551615",
           "--json",    "--no-bos",   "--ids", "1, 2,-3", "--colour", "green"});
  EXPECT_EQ(e.lines, 3);
  EXPECT_EQ(e.model, "model.gguf");
  EXPECT_EQ(e.out, "out/dir");
  EXPECT_EQ(e.prompt, "a b");
  EXPECT_EQ(e.budget, 1500000);
  EXPECT_EQ(e.limit, 0);
  EXPECT_EQ(e.rate, 1e-3);
  EXPECT_EQ(e.seed, 18446744073709551615u);
  EXPECT_TRUE(e.json);
  EXPECT_EQ(e.bos, false);
  EXPECT_EQ(e.ids, (std::vector<int64_t>{1, 2, -3}));
  EXPECT_EQ(e.colour, Colour::green);
}

TEST(Args, DefaultsStay) {
  Everything e;
  e.parse({"m", "-o", "d"});
  EXPECT_EQ(e.prompt, "hello");
  EXPECT_EQ(e.lines, 10);
  EXPECT_FALSE(e.limit);
  EXPECT_FALSE(e.bos);
  EXPECT_FALSE(e.json);
  EXPECT_EQ(e.data, std::vector<Path>{"default.txt"});
  EXPECT_TRUE(e.rest.empty());
}

TEST(Args, ListsTakeWordsUpToTheNextFlag) {
  Everything e;
  e.parse(
      {"m", "x.txt", "y.txt", "--data", "a", "b", "-o", "d", "--stop", "one", "--data=c", "--stop=-2", "-3"});
  EXPECT_EQ(e.data, (std::vector<Path>{"a", "b", "c"}));
  EXPECT_EQ(e.stop, (Words{"one", "-2"}));
  EXPECT_EQ(e.rest, (std::vector<Path>{"x.txt", "y.txt", "-3"}));
}

TEST(Args, ValuesMayStartWithADash) {
  Everything e;
  e.parse({"-o", "d", "-p", "- no", "--lr", "-1.5", "--", "--model"});
  EXPECT_EQ(e.prompt, "- no");
  EXPECT_EQ(e.rate, -1.5);
  EXPECT_EQ(e.model, "--model");
  Everything empty;
  empty.parse({"m", "-o", "d", "--prompt="});
  EXPECT_EQ(empty.prompt, "");
}

TEST(Args, MistakesAreNamed) {
  const Words ok = {"m", "-o", "d"};
  const auto with = [&](Words more) {
    more.insert(more.begin(), ok.begin(), ok.end());
    return usage_error(more);
  };
  EXPECT_EQ(with({}), "no error");
  EXPECT_EQ(with({"--promt", "x"}), "unknown flag --promt (did you mean --prompt?)");
  EXPECT_EQ(with({"--wholly-unlike"}), "unknown flag --wholly-unlike");
  EXPECT_EQ(with({"--lines", "ten"}), "--lines: 'ten' is not a whole number");
  EXPECT_EQ(with({"-n", "3x"}), "-n: '3x' is not a whole number");
  EXPECT_EQ(with({"-n", ""}), "-n: '' is not a whole number");
  EXPECT_EQ(with({"-n", "99999999999999999999"}), "-n: '99999999999999999999' is not a whole number");
  EXPECT_EQ(with({"-n", "0"}), "-n: 0 is too small, at least 1 is expected");
  EXPECT_EQ(with({"--limit", "-1"}), "--limit: -1 is too small, at least 0 is expected");
  EXPECT_EQ(with({"--seed", "-1"}), "--seed: '-1' is not a whole number, 0 or more");
  EXPECT_EQ(with({"--lr", "nan"}), "--lr: 'nan' is not a finite number");
  EXPECT_EQ(with({"--tokens", "3Q"}),
            "--tokens: '3Q' is not a number of tokens (such as 3000000, 3M or 1.5G)");
  EXPECT_EQ(with({"--lines"}), "--lines needs a value, N");
  EXPECT_EQ(with({"--lines", "--json"}), "--lines needs a value, N");
  EXPECT_EQ(with({"--lines", "--lr=3"}), "--lines needs a value, N");
  EXPECT_EQ(with({"--json=1"}), "--json takes no value");
  EXPECT_EQ(with({"--ids", "1,x"}), "--ids: 'x' is not a whole number");
  EXPECT_EQ(with({"--colour", "gren"}), "--colour: 'gren' is not one of red, green (did you mean green?)");
  EXPECT_EQ(usage_error({"m"}), "--output is missing: where to write");
  EXPECT_EQ(usage_error({"-o", "d"}), "MODEL is missing: a model");
}

TEST(Args, AWordTooMany) {
  Args args("one", "takes one word", {"a", "b"});
  std::string word;
  args.positional(&word, "WORD", "a word");
  EXPECT_THROW(args.parse(), UsageError);
  EXPECT_THROW(args.misused("%s and %s", "--a", "--b"), UsageError);
}

TEST(Args, HelpShowsNamesDefaultsAndUsage) {
  Everything e;
  EXPECT_THROW(e.parse({"--help"}), HelpWanted);
  EXPECT_THROW(e.parse({"m", "-h"}), HelpWanted);
  EXPECT_EQ(e.usage, "usage: supra everything MODEL [FILE...] --output DIR [flags]");
  for (const char* part :
       {"does all of it", "-n, --lines N", "(default 10)", "(default 3M)", "(default 0.0003)",
        "--bos, --no-bos", "--colour red|green", "(default red)", "--data FILE...", "--help"})
    EXPECT_NE(e.help.find(part), std::string::npos) << part << " is not in\n" << e.help;
}

TEST(Args, AFlagDeclaredTwiceIsABug) {
  Args args("two", "", {});
  bool a = false;
  args.flag(&a, "--same", "");
  EXPECT_THROW(args.flag(&a, "--same", ""), Error);
}

TEST(Args, ThreadsAreSet) {
  const int before = threads();
  Args args("any", "", {"--threads", "3"});
  common_flags(args);
  args.parse();
  EXPECT_EQ(threads(), 3);
  set_threads(before);
  Args none("any", "", {"--threads", "0"});
  common_flags(none);
  EXPECT_THROW(none.parse(), UsageError);
}

TEST(Args, TokenCounts) {
  EXPECT_EQ(read_token_count("0"), 0);
  EXPECT_EQ(read_token_count("38k"), 38000);
  EXPECT_EQ(read_token_count("0.3M"), 300000);
  EXPECT_EQ(read_token_count("2G"), 2000000000);
  for (const char* wrong : {"", "k", "-1", "1.5", "0.0001k", "1e3", "3m", "99999999G", "1.2.3M"})
    EXPECT_THROW(read_token_count(wrong), UsageError) << wrong;
  EXPECT_EQ(show_token_count(0), "0");
  EXPECT_EQ(show_token_count(1500), "1500");
  EXPECT_EQ(show_token_count(2000), "2k");
  EXPECT_EQ(show_token_count(3000000000), "3G");
}

TEST(Args, TheNearestWord) {
  const Words known = {"eval", "train", "uptrain", "chat"};
  EXPECT_EQ(nearest_hint("evla", known), " (did you mean eval?)");
  EXPECT_EQ(nearest_hint("uptrian", known), " (did you mean uptrain?)");
  EXPECT_EQ(nearest_hint("cat", known), " (did you mean chat?)");
  EXPECT_EQ(nearest_hint("xyzzy", known), "");
  EXPECT_EQ(nearest_hint("", known), "");
}

}  // namespace
}  // namespace supra
