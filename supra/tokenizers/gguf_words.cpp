#include "supra/tokenizers/gguf_words.h"

#include "supra/formats/parse/words.h"
#include "supra/tokenizers/pre_tokenizer.h"

namespace supra {

// Common parts of the expressions.
#define CONTRACTION R"((?i:'s|'t|'re|'ve|'m|'ll|'d))"
#define LETTERS R"([^\r\n\p{L}\p{N}]?\p{L}+)"
#define SYMBOLS R"( ?[^\s\p{L}\p{N}]+[\r\n]*)"
#define BLANKS R"(\s*[\r\n]+|\s+(?!\S)|\s+)"
#define UPPER R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])"
#define LOWER R"([\p{Ll}\p{Lm}\p{Lo}\p{M}])"
#define LEAD R"([^\r\n\p{L}\p{N}]?)"
#define CASED(END) LEAD UPPER "*" LOWER "+" END "|" LEAD UPPER "+" LOWER "*" END
#define SLASHED R"( ?[^\s\p{L}\p{N}]+[\r\n/]*)"
#define LLAMA3(NUMBER) CONTRACTION "|" LETTERS "|" NUMBER "|" SYMBOLS "|" BLANKS
#define GPT4O(NUMBER) CASED(CONTRACTION "?") "|" NUMBER "|" SLASHED "|" BLANKS
#define ASCII_SYMBOL R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+)"
#define DEEPSEEK3(LINES) ASCII_SYMBOL R"(|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+)" LINES R"(|\s+(?!\S)|\s+)"

static constexpr char kHan[] = "[一-龥ࠀ-一가-퟿]+", kKana[] = "[一-龥぀-ゟ゠-ヿ]+", kThree[] = R"(\p{N}{1,3})", kOne[] = R"(\p{N})";
static constexpr char kLatin[] =
    R"(\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\x{1f7d}ᾀ-ᾴᾶ-ᾼ\x{1fbe}ῂ-ῄῆ-ῌῐ-\x{1fd3}ῖ-\x{1fdb}ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\x{2126}ℨ\x{212a}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+)";
static constexpr char kBloom[] = R"( ?[^(\s|.,!?…。，、।۔،)]+)", kLines[] = R"([^\n]+|[\n]+)";

const GgufWords* gguf_words(std::string_view name) {
  static const GgufWords known[] = {
      {"default", {R"([\p{P}$+<=>^~|]+)", kGpt2Words, R"(\p{N}+)", "[0-9][0-9][0-9]"}},
      {"gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert jina-v1-en jina-v2-code roberta-bpe exaone4 "
       "mpt olmo jais trillion granite-docling",
       {kGpt2Words}},
      {"llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano", {LLAMA3(R"(\p{N}{1,3})")}, true, true},
      {"dbrx smaug-bpe glm4 chatglm-bpe", {LLAMA3(R"(\p{N}{1,3})")}},
      {"qwen2 deepseek-r1-qwen kormo f2llmv2 stablelm2 megrez hunyuan solar-open grok-2", {LLAMA3(R"(\p{N})")}},
      {"qwen35", {CONTRACTION R"(|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|)" BLANKS}},
      {"ufakzeka", {LETTERS R"(|\p{N}|)" SYMBOLS "|" BLANKS}},
      {"laguna", {kLines, LLAMA3(R"(\p{N})")}},
      {"minicpm5", {kThree, LLAMA3(R"(\p{N}+)")}, true},
      {"seed-coder", {CONTRACTION "|" LETTERS R"(|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|)" BLANKS}},
      {"bailingmoe bailingmoe2 llada-moe",
       {R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)"}},
      {"jais-2",
       {CONTRACTION "|" LETTERS R"(|\p{N}{1,3}|)" SYMBOLS
                    R"(|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s)"}},
      {"exaone-moe",
       {CONTRACTION R"(|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+)"}},
      {"smollm starcoder refact command-r codeshell exaone minerva-7b mellum2", {kOne, kGpt2Words}},
      {"falcon", {R"([\p{P}$+<=>^~|`]+)", kGpt2Words, "[0-9][0-9][0-9]"}},
      {"deepseek-llm", {R"([\r\n])", kLatin, R"(\s?[!-/:-~！-／：-～‘-‟　-。]+)", R"(\s+$)", kHan, R"(\p{N}+)"}},
      {"deepseek-coder", {R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", kHan, kOne}},
      {"deepseek-v3 hunyuan-dense joyai-llm hy_v4", {kThree, kKana, DEEPSEEK3(R"([\r\n]*|\s*[\r\n]+)")}},
      {"spark2_5", {kThree, kKana, DEEPSEEK3(R"(|[\r\n])"), kOne}},
      {"youtu", {"[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+", GPT4O(R"(\p{N})")}, true},
      {"gpt-4o llama4 kanana2 talkie minimax-m2", {GPT4O(R"(\p{N}{1,3})")}},
      {"granite-embed-multi-97m", {GPT4O(R"(\p{N}{1,3})")}, true},
      {"tiny_aya cohere2moe", {R"(\d{1,3}(?=(?:\d{3})*\b))", GPT4O(R"(\p{N}{1,3})")}},
      {"tekken", {CASED("") R"(|\p{N}|)" SLASHED "|" BLANKS}, true, true},
      {"poro-chat bloom gpt3-finnish", {kBloom}},
      {"viking", {kBloom, kOne}},
      {"chameleon",
       {"<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", R"(([\t\n]|    |  ))", kOne, R"([\p{P}!-/:-@\[-`{-~])", kGpt2Words},
       false, true},
      {"gemma4 granite-embed-multi-311m sarvam-moe", {kLines}, false, false, true}};
  for (const GgufWords& row : known) {
    const std::vector<std::string> names = split_words(row.names);
    if (std::find(names.begin(), names.end(), name) != names.end()) return &row;
  }
  return nullptr;
}

}  // namespace supra
