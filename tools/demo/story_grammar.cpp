#include "tools/demo/story_grammar.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "tensor/error.h"

namespace supra {
namespace {

// A rule and its options, separated by bars; *3 at the end of an option is its weight.
struct RuleText {
  const char* name;
  const char* options;
};

constexpr RuleText kRules[] = {
    {"story", "On[when], [temper] [hero=name] [plot] [end]"},
    {"when", "e [sky] [daytime]*3| a [sky] [daytime]*2|ce, on a [sky] [daytime]"},

    // The hider tells where it was; the finder gives back; the loser is told; the friend plays a trick.
    {"plot",
     "hid a [thing=thing] in the [place=place]. [meet] [play] [where] [back]*3|"
     "found a [thing=thing] in the [place=place]. [meet] \"Is this your {thing}?\" asked {hero}. "
     "\"No, it is [owner=name]'s,\" said {friend}. So they [went] to the [air] [spot] and gave it to "
     "{owner}. "
     "\"It was in the {place},\" said {hero}. {owner} gave them [meal].*3|"
     "lost a [thing=thing]. It was not in the [room] and not in the [room]. [meet] "
     "\"I saw a {thing} in the [place=place],\" said the {beast}. They [went] to the {place}. "
     "{hero} thanked {friend} with [meal].*3|"
     "got a [thing=thing] from {her} [kin=kin]. [meet] The {beast} hid the {thing} in the [place=place]. "
     "{hero} looked in the [room] and in the [room]. At last {she} looked in the {place}. "
     "Then they [game], and {her} {kin} gave them [meal].*2"},

    {"meet",
     "At the [air] [spot] {she} met a [temper] [fur] [beast=animal] named [friend=name].*2|"
     "Then [friend=name], a [temper] [fur] [beast=animal], came from the [air] [spot].*2|"
     "Later {she} [went] to the [air] [spot] with [friend=name], a [temper] [fur] [beast=animal]."},
    {"play",
     "They shared [meal] and [game].*2|"
     "Together they [game] and ate [meal]."},
    {"where",
     "\"Where is the {thing}?\" asked {friend}.*2|"
     "\"May I see the {thing}?\" asked the {beast}.|"
     "Soon {friend} asked for the {thing}."},
    {"back",
     "\"It is in the {place},\" said {hero}. They [went] back, and there it was.|"
     "So they [went] to the {place} and found the {thing}.|"
     "Then {hero} [went] to the {place} to get the {thing}."},
    {"end",
     "In the end {hero} was [mood] and {friend} was [mood].*3|"
     "That night {hero} dreamed of a [colour] [animal] and a [colour] [toy].*2|"
     "From then on {hero} and the {beast} were [bond] friends.*2|"
     "Before bed {hero} told {her} [kin] about {friend} and the {thing}."},

    {"thing", "[colour] [toy]"},
    {"place", "[look] [room]"},
    {"meal", "[number] [taste] [food]"},

    {"sky", "sunny*2|windy*2|rainy|snowy|cold|warm|foggy|quiet|bright|cloudy|golden|frosty"},
    {"daytime", "morning*2|afternoon|evening|day"},
    {"name",
     "Mia*2|Ben*2|Lily|Tom|Anna|Max|Ella|Sam|Nora|Leo|Rosa|Finn|Ivy|Hugo|Clara|Otto|Emma|Paul|Ruby|Jack"},
    {"colour", "red*2|blue*2|green|yellow|purple|pink|white|silver|brown|black|tiny|shiny|round|striped"},
    {"toy",
     "ball*2|kite*2|boat|drum|bell|book|hat|scarf|cup|key|lamp|coin|doll|train|whistle|spoon|ribbon|feather"},
    {"look", "old*2|big*2|dark|dusty|empty|small|narrow|crooked|cosy|lonely|broken|hidden"},
    {"room",
     "barn|cellar|kitchen|garden|attic|shed|tower|mill|stable|tent|cabin|bakery|cave|library|cottage|hall"},
    {"spot",
     "river|lake|market|fountain|bridge|meadow|beach|castle|well|orchard|pond|station|harbour|school|park|"
     "fair"},
    {"air", "quiet*2|green|sunny|old|big|busy|windy|lovely|nearby|distant"},
    {"temper", "kind*2|shy|clever|brave|sleepy|funny|hungry|gentle|polite|jolly|noisy|proud|grumpy|friendly"},
    {"fur", "brown*2|black|white|grey|little*2|big|old|young|tall|round|spotted|fluffy"},
    {"animal",
     "dog*2|cat*2|fox|rabbit|hen|goat|duck|mouse|bear|owl|hedgehog|squirrel|frog|badger|pony|turtle"},
    {"went", "walked*2|ran*2|hurried|skipped|rode|marched|crept|danced"},
    {"game",
     "sang songs|played tag|told jokes|counted clouds|watched birds|built a den|ran races|climbed trees|"
     "picked flowers|chased leaves|drew maps|flew a kite|looked for shells|jumped in puddles"},
    {"number", "two*2|three*2|four|five|six|seven|eight|nine|ten|twelve"},
    {"taste", "sweet|fresh|tasty|big|golden|little|warm|crunchy"},
    {"food",
     "apples|pears|plums|cherries|berries|nuts|buns|cookies|pancakes|peaches|carrots|figs|muffins|waffles"},
    {"kin", "mother*2|father*2|aunt|uncle|grandmother|grandfather|cousin|sister|brother|neighbour"},
    {"mood", "happy*2|glad|proud|tired|calm|cheerful|sleepy|thankful|merry|content"},
    {"bond", "best*2|good|close|true|dear|loyal"},
};

StoryGrammar::Rules parse_rules() {
  StoryGrammar::Rules rules;
  for (const RuleText& rule : kRules) {
    const std::string options = rule.options;
    for (size_t from = 0; from <= options.size();) {
      const size_t bar = std::min(options.find('|', from), options.size());
      std::string text = options.substr(from, bar - from);
      const size_t star = text.find('*');
      const uint64_t weight = star == std::string::npos ? 1 : uint64_t(atoi(text.c_str() + star + 1));
      rules[rule.name].push_back({text.substr(0, star), weight});
      from = bar + 1;
    }
  }
  return rules;
}

// A story while it is written.
class Writer {
 public:
  explicit Writer(Philox& random) : random_(random) {}

  Story finish() {
    draw("story");
    return std::move(story_);
  }

 private:
  // Draws an option of the rule that this story has not used yet, and writes it.
  void draw(const std::string& rule) {
    const auto& options = StoryGrammar::rules().at(rule);
    std::vector<bool>& used = used_[rule];
    used.resize(options.size());
    uint64_t left = 0;
    for (size_t i = 0; i < options.size(); ++i) left += used[i] ? 0 : options[i].weight;
    CHECK(left > 0, "story grammar: rule %s has too few options for one story", rule.c_str());
    uint64_t ticket = random_.below(left);
    size_t i = 0;
    for (; used[i] || ticket >= options[i].weight; ++i) ticket -= used[i] ? 0 : options[i].weight;
    used[i] = true;
    story_.bits += std::log2(double(left) / double(options[i].weight));
    write(options[i].text);
  }

  void write(const std::string& text) {
    for (size_t at = 0; at < text.size();) {
      const size_t open = std::min(text.find_first_of("[{", at), text.size());
      story_.text.append(text, at, open - at);
      if (open == text.size()) return;
      const size_t close = text.find(text[open] == '[' ? ']' : '}', open);
      const std::string inside = text.substr(open + 1, close - open - 1);
      text[open] == '[' ? draw_and_remember(inside) : repeat(inside);
      at = close + 1;
    }
  }

  void draw_and_remember(const std::string& inside) {
    const size_t equals = inside.find('=');
    if (equals == std::string::npos) return draw(inside);
    const size_t begin = story_.text.size();
    draw(inside.substr(equals + 1));
    words_[inside.substr(0, equals)] = story_.text.substr(begin);
  }

  void repeat(const std::string& word) {
    const std::string pronoun = StoryGrammar::pronoun(word, words_.at("hero"));
    if (!pronoun.empty()) {
      story_.text += pronoun;
      return;
    }
    const size_t begin = story_.text.size();
    story_.text += words_.at(word);
    story_.recall.emplace_back(begin, story_.text.size());
  }

  Philox& random_;
  Story story_;
  std::map<std::string, std::string> words_;
  std::map<std::string, std::vector<bool>> used_;
};

}  // namespace

const StoryGrammar::Rules& StoryGrammar::rules() {
  static const Rules rules = parse_rules();
  return rules;
}

std::string StoryGrammar::pronoun(const std::string& word, const std::string& hero) {
  const bool girl =
      std::string(" Mia Lily Anna Ella Nora Rosa Ivy Clara Emma Ruby ").find(" " + hero + " ") !=
      std::string::npos;
  if (word == "she") return girl ? "she" : "he";
  if (word == "her") return girl ? "her" : "his";
  return "";
}

Story StoryGrammar::next() { return Writer(random_).finish(); }

StoryText write_stories(StoryGrammar& grammar, int64_t bytes) {
  StoryText all;
  while (int64_t(all.text.size()) < bytes) {
    const Story story = grammar.next();
    all.text += story.text + "\n" + kStorySeparator + "\n";
    ++all.stories;
    all.story_bytes += int64_t(story.text.size());
    all.bits += story.bits;
  }
  return all;
}

Path write_story_file(const Path& path, uint64_t seed, int64_t bytes) {
  StoryGrammar grammar(seed);
  write_file_atomically(path, write_stories(grammar, bytes).text);
  return path;
}

std::string story_vocabulary() {
  // this many stories contain every word of the rules
  constexpr int kStories = 4000;
  std::map<std::string, float> pieces;  // by score
  StoryGrammar grammar(0);
  for (int story = 0; story < kStories; story++) {
    const std::string text = " " + grammar.next().text;
    for (size_t at = 1; at < text.size(); at++) {
      pieces[text.substr(at, 1)] = 0;
      if (!isalpha(text[at]) || isalpha(text[at - 1])) continue;
      size_t end = at;
      while (end < text.size() && isalpha(text[end])) end++;
      // a word after a space includes the space, and has a better score
      const bool spaced = text[at - 1] == ' ';
      const std::string word = text.substr(spaced ? at - 1 : at, spaced ? end - at + 1 : end - at);
      for (size_t size = 2; size <= word.size(); size++) pieces[word.substr(0, size)] = spaced ? 2 : 1;
    }
  }
  std::string file;
  const auto put = [&](const std::string& text, float score) {
    const int32_t size = int32_t(text.size());
    file.append(reinterpret_cast<const char*>(&score), 4);
    file.append(reinterpret_cast<const char*>(&size), 4);
    file += text;
  };
  const int32_t longest = 32;
  file.append(reinterpret_cast<const char*>(&longest), 4);
  for (const char* mark : {"<unk>", "<s>", "</s>"}) put(mark, 0);
  for (int byte = 0; byte < 256; byte++) put(format("<0x%02X>", byte), 0);
  for (const auto& [text, score] : pieces) put(text, score);
  return file;
}

}  // namespace supra
