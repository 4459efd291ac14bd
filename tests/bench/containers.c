/* The patterns of containers: strings, vectors of vectors, and a cache with eviction. */

#include "bench.h"

#include <string.h>

/* strings: a program that puts texts together: names of files, keys, lines of a log,
   parts of a page. 64 of them are in work at a time, a piece of 8 to 32 bytes is added
   to one of them, and each is written in one of three ways: a realloc for each piece; a
   realloc that doubles the room when it is full; or concatenation, which makes a new
   string and frees the old one. A text that has its length, 8 bytes to 2 KiB, short ones
   as often as long ones, is cut to size and stays among 8192 others, at random: some 3
   MiB.

   A piece has 8 bytes at least, so that the ends of a text are whole words, and the ends
   are what is checked. */

enum {
  text_operations = 12000000,
  text_builders = 64,
  text_count = 8192,
  text_longest = 2048,
  piece_shortest = 8,
  piece_longest = 32,
  corpus_bytes = 4096
};

enum text_way { EACH_PIECE, DOUBLING, CONCATENATION, text_ways };

struct text {
  char *bytes; /* NULL when there is no text */
  uint32_t length, capacity;
  uint32_t target;
  enum text_way way;
  uint64_t head, tail; /* what its ends must be */
};

static uint64_t word_at(const char *bytes) {
  uint64_t word;
  memcpy(&word, bytes, sizeof word);
  return word;
}

static char *text_checked(char *bytes) {
  if (bytes == NULL) bench_fail("malloc, realloc: out of memory");
  return bytes;
}

static void text_append(struct text *text, const char *piece, uint32_t length) {
  uint32_t longer = text->length + length;
  switch (text->way) {
    case EACH_PIECE: text->bytes = text_checked(realloc(text->bytes, longer)); break;
    case DOUBLING:
      if (text->capacity >= longer) break;
      text->capacity = text->capacity == 0 ? 16 : text->capacity;
      while (text->capacity < longer) text->capacity *= 2;
      text->bytes = text_checked(realloc(text->bytes, text->capacity));
      break;
    default: {
      char *fresh = text_checked(malloc(longer));
      if (text->length != 0) memcpy(fresh, text->bytes, text->length);
      free(text->bytes);
      text->bytes = fresh;
    }
  }
  memcpy(text->bytes + text->length, piece, length);
  if (text->length == 0) text->head = word_at(piece);
  text->tail = word_at(piece + length - sizeof(uint64_t));
  text->length = longer;
}

static void text_delete(struct tally *tally, struct text *text) {
  if (text->bytes == NULL) return;
  uint64_t head = word_at(text->bytes);
  uint64_t tail = word_at(text->bytes + text->length - sizeof(uint64_t));
  if (head != text->head || tail != text->tail) bench_fail("a text has changed");
  tally->found += head ^ tail ^ text->length;
  free(text->bytes);
  text->bytes = NULL;
}

static void text_finish(struct tally *tally, struct text *text, struct text *kept) {
  if (text->way == DOUBLING)
    text->bytes = text_checked(realloc(text->bytes, text->length));
  tally->written += text->head ^ text->tail ^ text->length;
  text_delete(tally, kept);
  *kept = *text;
  *text = (struct text){0};
}

void pattern_strings(struct run *run) {
  struct tally tally = {0};
  struct random random = random_seed(20);
  struct text *builders = array_map(text_builders, sizeof *builders);
  struct text *kept = array_map(text_count, sizeof *kept);
  char *corpus = array_map(corpus_bytes, 1);
  for (size_t i = 0; i < corpus_bytes; i++)
    corpus[i] = (char)random_between(&random, ' ', '~');
  timer_start(run);
  for (int i = 0; i < text_operations; i++) {
    struct text *text = &builders[random_below(&random, text_builders)];
    if (text->bytes == NULL) {
      text->way = (enum text_way)random_below(&random, text_ways);
      text->target = (uint32_t)random_log_between(&random, 8, text_longest);
    }
    uint32_t length = (uint32_t)random_between(&random, piece_shortest, piece_longest);
    const char *piece = corpus + random_below(&random, corpus_bytes - piece_longest);
    if (length > text->target - text->length) length = text->target - text->length;
    if (length < piece_shortest) length = piece_shortest;
    text_append(text, piece, length);
    if (text->length >= text->target)
      text_finish(&tally, text, &kept[random_below(&random, text_count)]);
  }
  timer_stop(run);
  run->operations = text_operations;
  for (int i = 0; i < text_builders; i++) {
    if (builders[i].bytes != NULL) text_finish(&tally, &builders[i], &kept[0]);
  }
  for (int i = 0; i < text_count; i++) text_delete(&tally, &kept[i]);
  run_add_tally(run, &tally);
}

/* vectors: adjacency lists, tables of rows, buckets: vectors whose elements are vectors.
   A row grows by doubling from 4 words, half of the rows by malloc, copy and free, as in
   C++, the others by realloc, until it has its length: 64 to 512 words mostly, and
   16,384 for one in 64. The rows' headers lie in a vector that doubles too. One step in
   eight adds a row, one in sixteen drops one at random, and now and then a whole table
   goes. An operation is a step. */

enum {
  vector_operations = 6000000,
  table_count = 256,
  row_first = 4, /* words */
  row_short = 64,
  row_long = 512,
  row_longest = 16384
};

struct row {
  uint64_t *words;
  uint32_t length; /* all of it in use; 0 when there is nothing yet */
  uint32_t limit;
  uint64_t serial;
};

struct table {
  struct row *rows;
  uint32_t count, capacity;
  bool copies; /* by malloc, copy and free */
};

static void *vector_resized(void *vector, size_t old, size_t size, bool copies) {
  void *resized = copies ? malloc(size) : realloc(vector, size);
  if (resized == NULL) bench_fail("malloc, realloc: out of memory");
  if (copies) {
    if (old != 0) memcpy(resized, vector, old);
    free(vector);
  }
  return resized;
}

static uint64_t row_word(const struct row *row, uint32_t index) {
  return (row->serial << 32 | index) * UINT64_C(0x9E3779B97F4A7C15);
}

/* All new words are written, and one in each cache line is checked at the end. */
static void row_grow(struct tally *tally, struct row *row, bool copies) {
  uint32_t length = row->length == 0 ? row_first : 2 * row->length;
  row->words = vector_resized(row->words, row->length * sizeof *row->words,
                              length * sizeof *row->words, copies);
  for (uint32_t i = row->length; i < length; i++) row->words[i] = row_word(row, i);
  for (uint32_t i = (row->length + 7) & ~7u; i < length; i += 8)
    tally->written += row_word(row, i);
  row->length = length;
}

static void row_delete(struct tally *tally, struct row *row) {
  for (uint32_t i = 0; i < row->length; i += 8) {
    if (row->words[i] != row_word(row, i)) bench_fail("a row has changed");
    tally->found += row->words[i];
  }
  free(row->words);
}

static void table_drop_row(struct tally *tally, struct table *table, size_t index) {
  row_delete(tally, &table->rows[index]);
  table->rows[index] = table->rows[--table->count];
}

static void table_add_row(struct table *table, struct random *random, uint64_t serial) {
  if (table->count == table->capacity) {
    uint32_t capacity = table->capacity == 0 ? 4 : 2 * table->capacity;
    table->rows = vector_resized(table->rows, table->capacity * sizeof *table->rows,
                                 capacity * sizeof *table->rows, table->copies);
    table->capacity = capacity;
  }
  uint32_t limit = (uint32_t)random_log_between(random, row_short, row_long);
  if (random_below(random, 64) == 0) limit = row_longest;
  table->rows[table->count++] = (struct row){.limit = limit, .serial = serial};
}

static void table_delete(struct tally *tally, struct table *table) {
  for (uint32_t i = 0; i < table->count; i++) row_delete(tally, &table->rows[i]);
  free(table->rows);
  table->rows = NULL;
  table->count = table->capacity = 0;
}

void pattern_vectors(struct run *run) {
  struct tally tally = {0};
  struct random random = random_seed(21);
  struct table *tables = array_map(table_count, sizeof *tables);
  for (int i = 0; i < table_count; i++) tables[i].copies = i % 2 == 0;
  timer_start(run);
  for (int i = 0; i < vector_operations; i++) {
    uint64_t bits = random_next(&random);
    struct table *table = &tables[random_below(&random, table_count)];
    if ((bits & 0xFFFF000) == 0) {
      table_delete(&tally, table);
    } else if (table->count == 0 || (bits & 7) == 0) {
      table_add_row(table, &random, (uint64_t)i);
    } else {
      size_t index = random_below(&random, table->count);
      struct row *row = &table->rows[index];
      if ((bits & 15) == 1 || row->length >= row->limit)
        table_drop_row(&tally, table, index);
      else
        row_grow(&tally, row, table->copies);
    }
  }
  timer_stop(run);
  run->operations = vector_operations;
  for (int i = 0; i < table_count; i++) table_delete(&tally, &tables[i]);
  run_add_tally(run, &tally);
}

/* cache: a server's cache in front of something slow. 100,000 entries in a hash table
   with chains; a key that is not found evicts an entry at random, so that lifetimes are
   random too. An entry is a node of 48 bytes and a value of 16 bytes to 4 KiB, small
   ones most often: 80 MiB. Keys are drawn so that some are asked for much more often
   than others, and more than a third are found; of these, one in eight gets a new value
   of another size. An operation is a request. */

enum {
  cache_operations = 1500000,
  cache_entries = 100000,
  cache_buckets = 1 << 17,
  cache_keys = 1000000,
  value_smallest = 16,
  value_largest = 4096
};

struct entry {
  uint64_t stamp;
  struct entry *next; /* in its bucket */
  void *value;
  uint32_t key, index, uses, bucket;
  uint64_t reserved; /* for an expiry time; its last byte is the block's mark */
};

struct cache {
  struct tally tally;
  struct random random;
  struct entry **buckets;
  struct entry **entries;
  uint32_t count;
};

static void *cache_value(struct cache *cache) {
  size_t size = random_log_between(&cache->random, value_smallest, value_largest);
  return block_new(&cache->tally, size);
}

static void cache_evict(struct cache *cache, struct entry *entry) {
  struct entry **link = &cache->buckets[entry->bucket];
  while (*link != entry) link = &(*link)->next;
  *link = entry->next;
  block_delete(&cache->tally, entry->value);
  block_delete(&cache->tally, entry);
}

static void cache_insert(struct cache *cache, uint32_t key, uint32_t bucket) {
  uint32_t index = cache->count;
  if (cache->count == cache_entries) {
    index = (uint32_t)random_below(&cache->random, cache_entries);
    cache_evict(cache, cache->entries[index]);
  } else {
    cache->count++;
  }
  struct entry *entry = block_new(&cache->tally, sizeof *entry);
  entry->next = cache->buckets[bucket];
  entry->value = cache_value(cache);
  entry->key = key;
  entry->index = index;
  entry->bucket = bucket;
  entry->uses = 0;
  cache->buckets[bucket] = entry;
  cache->entries[index] = entry;
}

static void cache_request(struct cache *cache, uint32_t key) {
  uint32_t bucket = key * UINT32_C(2654435769) >> (32 - __builtin_ctz(cache_buckets));
  struct entry *entry = cache->buckets[bucket];
  while (entry != NULL && entry->key != key) entry = entry->next;
  if (entry == NULL) {
    cache_insert(cache, key, bucket);
  } else if (++entry->uses % 8 == 0) {
    block_delete(&cache->tally, entry->value);
    entry->value = cache_value(cache);
  } else {
    /* The value is read: it is one that was written and not yet freed. */
    uint64_t stamp = *(uint64_t *)entry->value;
    if (stamp != stamp_make(stamp_serial(stamp), stamp_size(stamp)))
      bench_fail("a value has changed");
  }
}

void pattern_cache(struct run *run) {
  struct cache cache = {.random = random_seed(22)};
  cache.buckets = array_map(cache_buckets, sizeof(struct entry *));
  cache.entries = array_map(cache_entries, sizeof(struct entry *));
  timer_start(run);
  for (int i = 0; i < cache_operations; i++) {
    /* The product of three numbers that are evenly spread lies mostly near 0. */
    uint64_t key = random_below(&cache.random, cache_keys);
    key = key * random_below(&cache.random, cache_keys) / cache_keys;
    key = key * random_below(&cache.random, cache_keys) / cache_keys;
    cache_request(&cache, (uint32_t)key);
  }
  timer_stop(run);
  run->operations = cache_operations;
  for (uint32_t i = 0; i < cache.count; i++) cache_evict(&cache, cache.entries[i]);
  run_add_tally(run, &cache.tally);
}
