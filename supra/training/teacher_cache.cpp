#include "supra/training/teacher_cache.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>

#include "supra/formats/crc32.h"
#include "tensor/error.h"

namespace supra {

static_assert(std::endian::native == std::endian::little, "teacher caches are little-endian");

struct CacheHeader {
  char magic[8] = {'S', 'U', 'P', 'R', 'A', 'T', 'C', 'H'};
  uint32_t version = 1, vocabulary, top, sequence, packing, teacher;
  uint64_t corpus, seed;
};
static_assert(sizeof(CacheHeader) == 48);

constexpr int64_t kRecordHead = 8;

// Of the weights: 4 KiB from the middle of each, so that most of a large file stays unread.
static uint32_t hash_of(const Decoder& teacher) {
  uint32_t hash = 0;
  const_cast<Decoder&>(teacher).visit([&](const std::string&, Var& parameter) {
    const size_t bytes = parameter.value().bytes(), part = std::min<size_t>(bytes, 4096);
    const Device device = parameter.value().device();
    std::string middle(part, 0);
    copy_bytes(middle.data(), Device::cpu, static_cast<const char*>(parameter.value().raw(device)) + (bytes - part) / 2, device, part);
    hash = crc32(hash, middle);
  });
  return hash;
}

template <class T>
static std::string_view bytes_of(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

static int64_t id_bytes_of(int64_t vocabulary) { return vocabulary <= 1 << 16 ? 2 : 4; }

static int64_t step_bytes(int64_t vocabulary, int64_t top) { return 2 + top * (id_bytes_of(vocabulary) + 2); }

int64_t TeacherCache::row_bytes(int64_t vocabulary, int64_t top, int64_t T) {
  return kRecordHead + T * step_bytes(vocabulary, top);
}

TeacherCache::TeacherCache(const Path& path, const Decoder& teacher, const Corpus& corpus, int64_t top, int64_t T,
                           uint64_t seed, Packing packing)
    : path_(path),
      O_(teacher.config().vocab),
      K_(top),
      T_(T),
      id_bytes_(id_bytes_of(O_)),
      step_bytes_(step_bytes(O_, K_)),
      row_bytes_(row_bytes(O_, K_, T_)) {
  CHECK(K_ >= 1 && K_ <= O_, "%s: the %ld largest probabilities of %ld tokens cannot be kept (give --teacher-top 1 to %ld)",
        path.c_str(), static_cast<long>(K_), static_cast<long>(O_), static_cast<long>(O_));
  CHECK(packing != Packing::carried, "%s: rows that go on from batch to batch cannot be cached (leave --teacher-cache away)",
        path.c_str());
  CacheHeader mine;
  mine.vocabulary = static_cast<uint32_t>(O_);
  mine.top = static_cast<uint32_t>(K_);
  mine.sequence = static_cast<uint32_t>(T_);
  mine.packing = static_cast<uint32_t>(packing);
  mine.teacher = hash_of(teacher);
  mine.corpus = corpus.hash();
  mine.seed = seed;
  if (!std::filesystem::exists(path)) write_file_atomically(path, bytes_of(mine));
  file_.emplace(path);

  CacheHeader its;
  CHECK(file_->read_at(0, &its, sizeof its) == sizeof its && bytes_of(its.magic) == bytes_of(mine.magic),
        "%s: is no teacher's cache, it does not begin with %.8s (give another --teacher-cache)", path.c_str(), mine.magic);
  const struct {
    const char* name;
    uint64_t then, now;
  } facts[] = {{"version of this format", its.version, mine.version},
               {"vocabulary", its.vocabulary, mine.vocabulary},
               {"--teacher-top", its.top, mine.top},
               {"--seq-len", its.sequence, mine.sequence},
               {"--pack (0: stream, 1: documents)", its.packing, mine.packing},
               {"--seed", its.seed, mine.seed},
               {"--teacher, by a hash of its weights", its.teacher, mine.teacher},
               {"--data or --docs, by a hash of the ids", its.corpus, mine.corpus}};
  for (const auto& fact : facts) {
    CHECK(fact.then == fact.now, "%s: was written with another %s: %lu, this run has %lu (give the same, or another --teacher-cache)",
          path.c_str(), fact.name, fact.then, fact.now);
  }
}

size_t TeacherCache::offset(const Batch& batch, int64_t b) const {
  return sizeof(CacheHeader) + static_cast<size_t>((batch.first_row + b) * row_bytes_);
}

// Of what the teacher reads in a row.
static uint32_t hash_of_row(const Batch& batch, int64_t b) {
  const Tensor tokens = batch.tokens.rows(b, b + 1);
  uint32_t hash = crc32(0, {static_cast<const char*>(tokens.raw()), tokens.bytes()});
  if (!batch.lengths.empty()) hash = crc32(hash, bytes_of(batch.lengths[b]));
  if (batch.cuts.empty()) return hash;
  for (const int64_t& cut : batch.cuts[b]) hash = crc32(hash, bytes_of(cut));
  return hash;
}

bool TeacherCache::read(const Batch& batch, int64_t b, char* record) const {
  const size_t bytes = static_cast<size_t>(row_bytes_);
  if (file_->read_at(offset(batch, b), record, bytes) < bytes) return false;
  uint32_t checksum, text;
  memcpy(&checksum, record, 4);
  memcpy(&text, record + 4, 4);
  if (checksum != crc32(0, {record + 4, bytes - 4})) return false;
  CHECK(text == hash_of_row(batch, b), "%s: row %ld was written for other text (give another --teacher-cache)", path_.c_str(),
        static_cast<long>(batch.first_row + b));
  return true;
}

void TeacherCache::write(const Batch& batch, int64_t b, const TeacherLogits& teacher, char* record) {
  const int64_t block = std::min(T_, std::max<int64_t>(32, kLogitsAtOnce / O_));
  const Tensor logits = Tensor::empty({block, O_});
  for (int64_t t = 0; t < T_; t += block) {
    const Tensor some = logits.rows(0, std::min(block, T_ - t));
    teacher(b * T_ + t, {}, some);
    compress(some, record + kRecordHead + t * step_bytes_);
  }
  const uint32_t text = hash_of_row(batch, b);
  memcpy(record + 4, &text, 4);
  const std::string_view whole(record, static_cast<size_t>(row_bytes_));
  const uint32_t checksum = crc32(0, whole.substr(4));
  memcpy(record, &checksum, 4);
  file_->write_at(offset(batch, b), whole);
}

static void put_half(char* to, double value) {
  // infinity would make a NaN of a probability that is zero
  const uint16_t half = f32_to_f16(static_cast<float>(std::max(value, -65504.0)));
  memcpy(to, &half, 2);
}

static float half_at(const char* from) {
  uint16_t half;
  memcpy(&half, from, 2);
  return f16_to_f32(half);
}

void TeacherCache::compress(const Tensor& logits, char* steps) const {
  const int64_t n = logits.dim(0), pair = id_bytes_ + 2;
  std::vector<float> named(static_cast<size_t>(n * K_));
  std::vector<int32_t> all(static_cast<size_t>(O_));
  std::iota(all.begin(), all.end(), 0);
  parallel_for(n, 1, [&](int64_t begin, int64_t end) {
    std::vector<int32_t> ids(static_cast<size_t>(K_));
    for (int64_t i = begin; i < end; i++) {
      float* x = logits.data<float>() + i * O_;
      std::partial_sort_copy(all.begin(), all.end(), ids.begin(), ids.end(), [&](int32_t a, int32_t b) {
        return x[a] > x[b] || (x[a] == x[b] && a < b);
      });
      for (int64_t k = 0; k < K_; k++) {
        memcpy(steps + i * step_bytes_ + 2 + k * pair, &ids[k], static_cast<size_t>(id_bytes_));
        named[i * K_ + k] = x[ids[k]];
        x[ids[k]] = -INFINITY;
      }
    }
  });
  const Tensor others = log_sum_exp(logits);
  for (int64_t i = 0; i < n; i++) {
    const float* x = named.data() + i * K_;
    const double rest = K_ < O_ ? others.data<double>()[i] - x[0] : -INFINITY;
    double sum = std::exp(rest);
    for (int64_t k = 0; k < K_; k++) sum += std::exp(static_cast<double>(x[k]) - x[0]);
    char* step = steps + i * step_bytes_;
    put_half(step, rest - std::log(sum));
    for (int64_t k = 0; k < K_; k++) put_half(step + 2 + k * pair + id_bytes_, x[k] - x[0] - std::log(sum));
  }
}

void TeacherCache::expand(const char* steps, const Tensor& student, const Tensor& logits) const {
  logits.copy_from(student);
  const int64_t n = logits.dim(0), pair = id_bytes_ + 2;
  const auto each_row = [&](auto f) {
    parallel_for(n, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) f(i, logits.data<float>() + i * O_, steps + i * step_bytes_);
    });
  };
  const auto each_named = [&](const char* step, auto f) {
    for (const char* at = step + 2; at < step + step_bytes_; at += pair) {
      uint32_t id = 0;
      memcpy(&id, at, static_cast<size_t>(id_bytes_));
      CHECK(id < O_, "%s: names token %u, there are %ld (remove it)", path_.c_str(), id, static_cast<long>(O_));
      f(id, at + id_bytes_);
    }
  };
  each_row([&](int64_t, float* x, const char* step) {
    each_named(step, [&](uint32_t id, const char*) { x[id] = -INFINITY; });
  });
  const Tensor others = log_sum_exp(logits);
  each_row([&](int64_t i, float* x, const char* step) {
    const float shift = half_at(step) - static_cast<float>(others.data<double>()[i]);
    for (int64_t o = 0; o < O_; o++) x[o] += shift;
    each_named(step, [&](uint32_t id, const char* log_p) { x[id] = half_at(log_p); });
  });
}

TeacherLogits TeacherCache::logits(const Batch& batch, FunctionRef<TeacherLogits()> live) {
  const int64_t B = batch.tokens.dim(0);
  check_shape("teacher cache", "a batch", batch.tokens.shape(), {B, T_});
  const auto records = std::make_shared<std::vector<char>>(static_cast<size_t>(B * row_bytes_));
  std::vector<char> there(static_cast<size_t>(B));
  parallel_for(B, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; b++) there[b] = read(batch, b, records->data() + b * row_bytes_);
  });
  TeacherLogits teacher;
  for (int64_t b = 0; b < B; b++) {
    if (there[b]) continue;
    if (!teacher) teacher = live();
    write(batch, b, teacher, records->data() + b * row_bytes_);
  }
  return [this, records](int64_t first, const Tensor& all_students, const Tensor& into) {
    // on a GPU both go to the CPU and back
    const Tensor student = all_students.to(Device::cpu), logits = into.device() == Device::cpu ? into : Tensor::empty(into.shape());
    for (int64_t done = 0, n = logits.dim(0); done < n;) {
      const int64_t b = (first + done) / T_, t = (first + done) % T_, end = std::min(n, done + T_ - t);
      expand(records->data() + b * row_bytes_ + kRecordHead + t * step_bytes_, student.rows(done, end), logits.rows(done, end));
      done = end;
    }
    if (into.device() != Device::cpu) into.copy_from(logits);
  };
}

}  // namespace supra
