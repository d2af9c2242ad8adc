#include "supra/tokenizers/pre_tokenizer.h"

#include <algorithm>

#include "supra/formats/parse/words.h"
#include "supra/tokenizers/regex.h"
#include "supra/tokenizers/unicode.h"

namespace supra {

namespace {

using Word = WordList::Word;

// What happens to the parts that a pattern matches.
enum class Behavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

Behavior behavior_of(const Json& json) {
  const std::vector<std::string> names = split_words("Removed Isolated MergedWithPrevious MergedWithNext Contiguous");
  const std::string name = json.text("behavior", "Isolated");
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) refuse_component(json, "the behavior " + name);
  return static_cast<Behavior>(found - names.begin());
}

struct Cut {
  std::shared_ptr<const Regex> regex;
  Behavior behavior = Behavior::isolated;
  bool inverted = false;

  void operator()(WordList& words) const {
    std::vector<Word> all;
    for (const Word& word : words.words) cut(words, word, all);
    words.words = std::move(all);
  }

  void cut(const WordList& words, const Word& word, std::vector<Word>& all) const {
    const size_t before = all.size();
    size_t at = word.begin;
    bool previous = false;
    regex->each_part(words.at(word), [&](std::string_view part, bool found) {
      const bool matches = found != inverted;
      const size_t begin = at;
      at += part.size();
      bool joins = false;
      switch (behavior) {
        case Behavior::removed:
          if (matches) return;
          break;
        case Behavior::isolated: break;
        case Behavior::contiguous: joins = matches == previous; break;
        case Behavior::merged_with_previous: joins = matches && !previous; break;
        case Behavior::merged_with_next: joins = !matches && previous; break;
      }
      previous = matches;
      if (joins && all.size() > before)
        all.back().end = at;
      else
        all.push_back({begin, at, 0});
    });
    const auto fresh = all.begin() + static_cast<std::ptrdiff_t>(before);
    for (auto w = fresh; w != all.end(); ++w) w->first = std::min(w->end, std::max(word.begin + word.first, w->begin)) - w->begin;
    all.erase(std::remove_if(fresh, all.end(), [](const Word& w) { return w.begin == w.end; }), all.end());
  }
};

// Rewrites each word: `front` gives the text before it, `write` appends each of its bytes.
template <class Front, class Write>
void rewrite(WordList& words, Front front, Write write) {
  std::string text;
  for (Word& word : words.words) {
    const std::string_view old = words.at(word);
    const size_t begin = text.size();
    const bool continues = words.continues && &word == words.words.data();
    if (!continues) text += front(old, word.first > 0);
    size_t first = word.first > 0 ? text.size() : begin;
    for (size_t i = 0; i < old.size(); i++) {
      write(text, old[i]);
      if (i + 1 == word.first) first = text.size();
    }
    word = {begin, text.size(), first - begin};
  }
  words.text = std::move(text);
}

}  // namespace

void PreTokenizer::add_byte_level(const Json& json) {
  if (json.flag("add_prefix_space", true)) {
    const auto front = [](std::string_view word, bool) { return word.starts_with(' ') ? "" : " "; };
    add([=](WordList& words) { rewrite(words, front, [](std::string& text, char c) { text += c; }); });
  }
  if (json.flag("use_regex", true)) add(Cut{std::make_shared<const Regex>(kGpt2Words, json.where())});
  add([](WordList& words) {
    rewrite(words, [](std::string_view, bool) { return ""; },
            [](std::string& text, char c) { text += byte_level_character(static_cast<uint8_t>(c)); });
  });
}

void PreTokenizer::add_metaspace(const Json& json) {
  const std::string space = json.text("replacement", "\u2581");
  if (space.empty() || first_character(space).size != space.size()) refuse_component(json, "a replacement that is not one character");
  const std::string scheme = json.text("prepend_scheme", json.flag("add_prefix_space", true) ? "always" : "never");
  if (scheme != "always" && scheme != "first" && scheme != "never") refuse_component(json, "the prepend_scheme " + scheme);
  const auto front = [=](std::string_view word, bool first) {
    const bool has = word.starts_with(' ') || word.starts_with(space);
    return !has && (scheme == "always" || (scheme == "first" && first)) ? std::string_view(space) : "";
  };
  add([=](WordList& words) {
    rewrite(words, front, [&](std::string& text, char c) {
      if (c == ' ')
        text += space;
      else
        text += c;
    });
  });
  if (json.flag("split", true)) add(Cut{std::make_shared<const Regex>(Regex::of_literal(space)), Behavior::merged_with_next});
}

void PreTokenizer::add_steps(const Json& json) {
  const std::string& type = json.text("type");
  const auto cut = [&](const char* regex, Behavior behavior, bool inverted = false) {
    add(Cut{std::make_shared<const Regex>(regex, json.where()), behavior, inverted});
  };
  if (type == "ByteLevel") return add_byte_level(json);
  if (type == "Metaspace") return add_metaspace(json);
  if (type == "Split") return add(Cut{read_pattern(json), behavior_of(json), json.flag("invert", false)});
  if (type == "Digits") return cut(R"(\p{N})", json.flag("individual_digits", false) ? Behavior::isolated : Behavior::contiguous);
  if (type == "Punctuation") return cut(R"([\p{P}$+<=>^`|~])", behavior_of(json));
  if (type == "Whitespace") return cut(R"([\w\x{200c}\x{200d}]+|[^\w\x{200c}\x{200d}\s]+)", Behavior::removed, true);
  if (type == "WhitespaceSplit") return cut(R"(\s)", Behavior::removed);
  if (type == "CharDelimiterSplit")
    return add(Cut{std::make_shared<const Regex>(Regex::of_literal(json.text("delimiter"))), Behavior::removed});
  refuse_component(json, "the pre-tokenizer " + type);
}

PreTokenizer::PreTokenizer(const Json* json) : StepList(json) {
  for (const Json* part : components(json, "pretokenizers")) add_steps(*part);
}

}  // namespace supra
