#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "supra/formats/file.h"
#include "tensor/random.h"

// A small grammar that writes short stories for the demo. Its entropy is known: on average no model can predict a
// text with fewer bits than the random choices that made it. Names, things and places appear early and must be
// remembered to the end.
//
// Different choices always write different texts, because no text of a rule is the beginning of another one of
// the same rule: at the first difference of two options, both have plain letters (tests/tools/story_grammar_test.cpp
// checks every pair). So -log2 p(text) is the sum over the choices, and a repeated word is determined by the
// text before it.

namespace supra {

struct Story {
  std::string text;  // ASCII, one paragraph, no newline; the first byte is always the same
  double bits = 0;   // -log2 p(text)
  // Bytes [begin, end) that repeat an earlier name, thing or place.
  std::vector<std::pair<size_t, size_t>> recall;
};

class StoryGrammar {
 public:
  // Plain text with [rule], a choice from a rule; [word=rule], a choice that is remembered; and {word}, the
  // remembered text. {she} and {her} depend on the name remembered as hero.
  struct Option {
    std::string text;
    uint64_t weight;
  };
  using Rules = std::map<std::string, std::vector<Option>>;

  explicit StoryGrammar(uint64_t seed) : random_(seed) {}

  Story next();

  // The rules; the first one is "story". An option is used at most once in a story; the remaining ones are
  // chosen by weight.
  static const Rules& rules();
  // The text of {she} or {her} for this hero; empty for any other word.
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
  int64_t story_bytes = 0;  // of the stories only
  double bits = 0;
  // The floor: the loss of the best possible model on this text, in bits per byte of the stories.
  double bits_per_byte() const { return bits / double(story_bytes); }
};

// Whole stories, until there are at least `bytes` of text.
StoryText write_stories(StoryGrammar& grammar, int64_t bytes);

// Seeds: training of the teacher, training of students, validation and testing each have different stories.
inline constexpr uint64_t kTeacherStories = 1, kStudentStories = 2, kHeldOutStories = 3, kValidStories = 4;

// The same as a file; returns its path. A token of story_vocabulary() is about four bytes.
Path write_story_file(const Path& path, uint64_t seed, int64_t bytes);

// A tokenizer file (llama2.c's format). Its pieces are the words of the grammar with the space before them, and all prefixes of
// the words, so that merging letter by letter ends at the word. A story has about 80 tokens.
std::string story_vocabulary();

}  // namespace supra
