#include "tools/demo/story_grammar.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace supra {
namespace {

// True when no text of option a can be the beginning of a text of option b or the other way round: where the
// two part, both have a plain letter.
bool part_at_a_letter(const std::string& a, const std::string& b) {
  size_t i = 0, open = 0;
  for (; i < a.size() && i < b.size() && a[i] == b[i]; ++i) {
    if (a[i] == '[' || a[i] == '{') ++open;
    if (a[i] == ']' || a[i] == '}') --open;
  }
  const auto letter = [&](const std::string& s) { return i < s.size() && s[i] != '[' && s[i] != '{'; };
  return open == 0 && letter(a) && letter(b);
}

TEST(StoryGrammar, EveryTwoOptionsOfARulePartAtALetter) {
  EXPECT_FALSE(part_at_a_letter("red", "red coat"));
  EXPECT_FALSE(part_at_a_letter("[a] x", "[b] x"));
  EXPECT_FALSE(part_at_a_letter("{a} x", "y"));
  EXPECT_TRUE(part_at_a_letter("{a} x", "{a} y"));
  for (const auto& [name, options] : StoryGrammar::rules()) {
    for (size_t i = 0; i < options.size(); ++i) {
      EXPECT_FALSE(options[i].text.empty()) << name;
      EXPECT_GT(options[i].weight, 0u) << name << ": " << options[i].text;
      for (size_t j = 0; j < i; ++j)
        EXPECT_TRUE(part_at_a_letter(options[i].text, options[j].text))
            << name << ": " << options[i].text << " | " << options[j].text;
    }
  }
}

// Reads a story back by trying every draw: an implementation of the grammar that shares nothing with the
// writer.
struct Reader {
  const std::string& text;
  int ways = 0;
  double bits = 0;  // of the last way found

  struct State {
    size_t at = 0;
    // What is still to come, the next piece last: template text, or "=word" with where it began.
    std::vector<std::pair<std::string, size_t>> todo;
    std::map<std::string, std::string> words;
    std::map<std::string, std::set<size_t>> used;
    double bits = 0;
  };

  void read(State s) {
    while (!s.todo.empty()) {
      auto [piece, began] = s.todo.back();
      s.todo.pop_back();
      if (piece.empty()) continue;
      if (piece[0] == '=') {
        s.words[piece.substr(1)] = text.substr(began, s.at - began);
      } else if (piece[0] == '{') {
        const size_t close = piece.find('}');
        const std::string word = piece.substr(1, close - 1);
        std::string expected = StoryGrammar::pronoun(word, s.words["hero"]);
        if (expected.empty()) expected = s.words.at(word);
        if (text.compare(s.at, expected.size(), expected) != 0) return;
        s.at += expected.size();
        s.todo.emplace_back(piece.substr(close + 1), 0);
      } else if (piece[0] == '[') {
        const size_t close = piece.find(']');
        std::string rule = piece.substr(1, close - 1);
        s.todo.emplace_back(piece.substr(close + 1), 0);
        if (const size_t equals = rule.find('='); equals != std::string::npos) {
          s.todo.emplace_back("=" + rule.substr(0, equals), s.at);
          rule = rule.substr(equals + 1);
        }
        return branch(s, rule);
      } else {
        if (s.at == text.size() || text[s.at] != piece[0]) return;
        ++s.at;
        s.todo.emplace_back(piece.substr(1), 0);
      }
    }
    if (s.at == text.size()) {
      ++ways;
      bits = s.bits;
    }
  }

  void branch(const State& s, const std::string& rule) {
    const auto& options = StoryGrammar::rules().at(rule);
    double left = 0;
    for (size_t i = 0; i < options.size(); ++i)
      if (!s.used.count(rule) || !s.used.at(rule).count(i)) left += double(options[i].weight);
    for (size_t i = 0; i < options.size(); ++i) {
      State next = s;
      if (!next.used[rule].insert(i).second) continue;
      next.bits -= std::log2(double(options[i].weight) / left);
      next.todo.emplace_back(options[i].text, 0);
      read(next);
    }
  }
};

TEST(StoryGrammar, AStoryIsReadBackInOneWayWithTheSameBits) {
  StoryGrammar grammar(7);
  for (int i = 0; i < 100; ++i) {
    const Story story = grammar.next();
    Reader reader{story.text};
    Reader::State start;
    start.todo.emplace_back("[story]", 0);
    reader.read(start);
    ASSERT_EQ(reader.ways, 1) << story.text;
    EXPECT_NEAR(reader.bits, story.bits, 1e-9) << story.text;
  }
}

TEST(StoryGrammar, ItsEntropyIsThatOfItsDraws) {
  // The first draw is known in full: what the stories begin with must come as often as the weights say.
  StoryGrammar grammar(3);
  const int n = 20000;
  int one = 0, once = 0;
  double bits = 0;
  for (int i = 0; i < n; ++i) {
    const Story story = grammar.next();
    one += story.text.rfind("One ", 0) == 0;
    once += story.text.rfind("Once,", 0) == 0;
    bits += story.bits;
  }
  EXPECT_NEAR(one, n / 2.0, 4 * std::sqrt(n / 4.0));
  EXPECT_NEAR(once, n / 6.0, 4 * std::sqrt(n * 5 / 36.0));
  EXPECT_GT(bits / n, 60);
}

TEST(StoryGrammar, RecallRepeatsWhatStandsBefore) {
  StoryGrammar grammar(11);
  for (int i = 0; i < 500; ++i) {
    const Story story = grammar.next();
    EXPECT_GE(story.recall.size(), 4u) << story.text;
    size_t last = 0;
    for (const auto& [begin, end] : story.recall) {
      ASSERT_LT(begin, end);
      ASSERT_LE(end, story.text.size());
      EXPECT_GE(begin, last);
      last = end;
      const std::string word = story.text.substr(begin, end - begin);
      EXPECT_LT(story.text.find(word), begin) << word << " in: " << story.text;
    }
  }
}

TEST(StoryGrammar, StoriesAreCleanText) {
  StoryGrammar grammar(5);
  for (int i = 0; i < 2000; ++i) {
    const std::string text = grammar.next().text;
    EXPECT_EQ(text[0], 'O');
    EXPECT_EQ(text.back(), '.');
    EXPECT_GT(text.size(), 200u);
    EXPECT_LT(text.size(), 480u);
    for (const char* slip :
         {"  ", " .", " ,", "..", "[", "]", "{", "}", "|", "*", "=", " a a", " a e", " a i", " a o", " a u"})
      EXPECT_EQ(text.find(slip), std::string::npos) << slip << " in: " << text;
    for (char c : text) EXPECT_TRUE(c >= ' ' && c <= '~');
  }
}

TEST(StoryGrammar, ASeedIsAText) {
  StoryGrammar a(1), b(1), c(2);
  const std::string text = a.next().text;
  EXPECT_EQ(text, b.next().text);
  EXPECT_NE(text, c.next().text);
  EXPECT_NE(text, a.next().text);
}

TEST(StoryGrammar, WritesDocumentsWithSeparators) {
  StoryGrammar grammar(9), same(9);
  const StoryText all = write_stories(grammar, 10000);
  EXPECT_GE(all.text.size(), 10000u);
  EXPECT_LT(all.text.size(), 10600u);
  std::string expected;
  double bits = 0;
  for (int64_t i = 0; i < all.stories; ++i) {
    const Story story = same.next();
    expected += story.text + "\n<|endoftext|>\n";
    bits += story.bits;
  }
  EXPECT_EQ(all.text, expected);
  EXPECT_EQ(all.story_bytes, int64_t(expected.size()) - 15 * all.stories);
  EXPECT_NEAR(all.bits_per_byte(), bits / double(all.story_bytes), 1e-12);
  EXPECT_GT(all.bits_per_byte(), 0.22);
  EXPECT_LT(all.bits_per_byte(), 0.30);
  EXPECT_TRUE(write_stories(grammar, 0).text.empty());
}

}  // namespace
}  // namespace supra
