#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tensor/file.h"
#include "tensor/random.h"

// A small grammar that writes short stories for the demo. It is a source with a known floor: no model can
// predict its text in fewer bits than the draws that made it. Names, things and places come early and must be
// remembered to the end.
//
// No two sequences of draws write the same text, for no text of a rule is the beginning of another one of it:
// where two options part, both have plain letters, and different ones (tests/story_grammar_test.cpp checks
// every pair). So -log2 p(text) is the sum over the draws, and a repeated word is determined by what stands
// before it.

namespace supra {

struct Story {
  std::string text;  // ASCII, one paragraph, no newline; the first byte is always the same
  double bits = 0;   // -log2 p(text)
  // Bytes [begin, end) that repeat a name, thing or place told earlier.
  std::vector<std::pair<size_t, size_t>> recall;
};

class StoryGrammar {
 public:
  // Plain text with [rule], a draw from a rule; [word=rule], a draw that is remembered; and {word}, the same
  // again. {she} and {her} follow the name remembered as hero.
  struct Option {
    std::string text;
    uint64_t weight;
  };
  using Rules = std::map<std::string, std::vector<Option>>;

  explicit StoryGrammar(uint64_t seed) : random_(seed) {}

  Story next();

  // The rules, the first one "story". An option drawn is out for the rest of the story; what is left is drawn
  // by weight.
  static const Rules& rules();
  // What {she} or {her} means after this hero; empty for any other word.
  static std::string pronoun(const std::string& word, const std::string& hero);

 private:
  Philox random_;
};

// Stories in the form that uptrain reads with --docs: each followed by a newline, the separator and a
// newline.
inline constexpr const char* kStorySeparator = "<|endoftext|>";

struct StoryText {
  std::string text;
  int64_t stories = 0;
  int64_t story_bytes = 0;  // of the stories alone
  double bits = 0;
  // The floor: what the best possible model reaches on this text, in bits a byte of the stories.
  double bits_per_byte() const { return bits / double(story_bytes); }
};

// Whole stories until there are `bytes` of text or a little more.
StoryText write_stories(StoryGrammar& grammar, int64_t bytes);

// Seeds: the teacher, the students, choices between them and the last word on them each have stories of their own.
inline constexpr uint64_t kTeacherStories = 1, kStudentStories = 2, kHeldOutStories = 3, kValidStories = 4;

// The same as a file; returns its path. A token of story_vocabulary() is about four bytes.
Path write_story_file(const Path& path, uint64_t seed, int64_t bytes);

// A tokenizer file (llama2.c's format) whose pieces are the words of the grammar, with the space in front of them, and
// their beginnings, so that merging letter by letter arrives at the word. A story is about 80 tokens.
std::string story_vocabulary();

}  // namespace supra
