/* SPDX-License-Identifier: BSD-2-Clause */

#include "engine/chunkmap_file.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/cleanup.h"
#include "engine/fullio.h"

enum {
	PAGE_SIZE = CHUNKMAP_PAGE_SIZE,
	PAGE_WORDS = CHUNKMAP_PAGE_WORDS,
	PAGE_CHUNKS = CHUNKMAP_PAGE_CHUNKS,
	MARK_OFFSET = 4096,
	MARK_SECTOR = 512,
	MARK_TEXT_MAX = 500,
	PAGES_OFFSET = 8192,
	PAGES_ALLOCATED = 256 << 10, /* bytes; of chunks of 64 KiB in 128 GiB */
	VERSION = 1,
};

/* The header block; all fields little endian. */
struct header {
	char magic[8];
	uint32_t version;
	uint32_t chunk_size;
	uint64_t id;
	uint64_t generation;
	uint64_t size;
	uint64_t n_chunks;
	uint64_t checksum; /* of the fields before it */
};

static const char header_magic[8] = "LUNFSMAP";

struct mark {
	char text[MARK_SECTOR - 8];
	uint64_t checksum; /* of the text; little endian */
};

_Static_assert(sizeof(struct mark) == MARK_SECTOR, "the mark is one sector");

/* FNV-1a. */
static uint64_t checksum_of(const void *data, size_t size)
{
	const uint8_t *p = data;
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	while (size--)
		h = (h ^ *p++) * UINT64_C(0x100000001b3);
	return h;
}

int chunkmap_file_check_params(const struct chunkmap_params *params)
{
	uint32_t size = params->chunk_size;

	if (size < 4096 || size > 4 << 20 || (size & (size - 1)))
		return -EINVAL;
	if (params->size > INT64_MAX)
		return -EFBIG;
	return 0;
}

uint64_t chunkmap_file_n_chunks(const struct chunkmap_params *params)
{
	return (params->size + params->chunk_size - 1) / params->chunk_size;
}

uint64_t chunkmap_file_n_pages(const struct chunkmap_params *params)
{
	return (chunkmap_file_n_chunks(params) + PAGE_CHUNKS - 1) / PAGE_CHUNKS;
}

static void header_fill(struct header *h, const struct chunkmap_params *params)
{
	memset(h, 0, sizeof(*h));
	memcpy(h->magic, header_magic, sizeof(h->magic));
	h->version = htole32(VERSION);
	h->chunk_size = htole32(params->chunk_size);
	h->id = htole64(params->id);
	h->generation = htole64(params->generation);
	h->size = htole64(params->size);
	h->n_chunks = htole64(chunkmap_file_n_chunks(params));
	h->checksum = htole64(checksum_of(h, offsetof(struct header, checksum)));
}

static int header_check(int fd, const struct chunkmap_params *params)
{
	struct header expected, h;
	struct stat st;
	int r;

	r = fullio_read(fd, &h, sizeof(h), 0);
	if (r < 0)
		return r;
	if (memcmp(h.magic, header_magic, sizeof(h.magic)) != 0 ||
	    le64toh(h.checksum) != checksum_of(&h, offsetof(struct header, checksum)))
		return -EUCLEAN;
	if (le64toh(h.id) != params->id || le64toh(h.generation) != params->generation)
		return -ESTALE;
	header_fill(&expected, params);
	if (memcmp(&h, &expected, sizeof(h)) != 0)
		return -EUCLEAN;
	if (fstat(fd, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size !=
	    PAGES_OFFSET + chunkmap_file_n_pages(params) * PAGE_SIZE)
		return -EUCLEAN;
	return 0;
}

/* The space of the first pages (of most maps, all), so that what a full file system
 * refuses is data, which hurts only who writes it, and not their bits. */
static int allocate_pages(int fd, uint64_t size)
{
	int r;

	if (!size)
		return 0;
	if (size > PAGES_ALLOCATED)
		size = PAGES_ALLOCATED;
	do
		r = fallocate(fd, FALLOC_FL_KEEP_SIZE, PAGES_OFFSET, (off_t)size);
	while (r < 0 && errno == EINTR);
	return r < 0 && errno != EOPNOTSUPP ? -errno : 0;
}

static int file_fill(int fd, const struct chunkmap_params *params)
{
	_Alignas(struct header) char blocks[PAGES_OFFSET] = { 0 };
	int r;

	if (ftruncate(fd, PAGES_OFFSET + chunkmap_file_n_pages(params) * PAGE_SIZE) < 0)
		return -errno;
	/* The mark block is written too, so that it is allocated. */
	header_fill((struct header *)blocks, params);
	r = fullio_write(fd, blocks, sizeof(blocks), 0);
	if (r >= 0)
		r = allocate_pages(fd, chunkmap_file_n_pages(params) * PAGE_SIZE);
	if (r < 0)
		return r;
	return fsync(fd) < 0 ? -errno : 0;
}

int chunkmap_create(int dirfd, const char *file, const struct chunkmap_params *params)
{
	CLEANUP_CLOSE int fd = -1;
	int r;

	r = chunkmap_file_check_params(params);
	if (r < 0)
		return r;
	fd = openat(dirfd, file, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		    0600);
	if (fd < 0)
		return -errno;
	r = file_fill(fd, params);
	if (r < 0)
		unlinkat(dirfd, file, 0);
	return r;
}

int chunkmap_file_open(int dirfd, const char *file, const struct chunkmap_params *params)
{
	CLEANUP_CLOSE int fd = -1;
	int r;

	r = chunkmap_file_check_params(params);
	if (r < 0)
		return r;
	fd = openat(dirfd, file, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = header_check(fd, params);
	return r < 0 ? r : move_fd(fd);
}

int chunkmap_file_read(int fd, uint64_t index, size_t n, uint64_t *words)
{
	size_t i;
	int r;

	r = fullio_read(fd, words, n * PAGE_SIZE, PAGES_OFFSET + index * PAGE_SIZE);
	if (r < 0)
		return r;
	for (i = 0; i < n * PAGE_WORDS; i++)
		words[i] = le64toh(words[i]);
	return 0;
}

int chunkmap_file_write(int fd, uint64_t index, const uint64_t *words)
{
	uint64_t le[PAGE_WORDS];
	size_t i;

	for (i = 0; i < PAGE_WORDS; i++)
		le[i] = htole64(words[i]);
	return fullio_write(fd, le, PAGE_SIZE, PAGES_OFFSET + index * PAGE_SIZE);
}

int chunkmap_file_sync(int fd)
{
	return fdatasync(fd) < 0 ? -errno : 0;
}

int chunkmap_file_next_data(int fd, uint64_t index, uint64_t *ret_index,
			    uint64_t *ret_end)
{
	off_t data, hole;

	data = lseek(fd, PAGES_OFFSET + index * PAGE_SIZE, SEEK_DATA);
	if (data < 0)
		return errno == ENXIO ? 0 : -errno;
	hole = lseek(fd, data, SEEK_HOLE);
	if (hole < 0)
		return -errno;
	*ret_index = (data - PAGES_OFFSET) / PAGE_SIZE;
	*ret_end = (hole - PAGES_OFFSET + PAGE_SIZE - 1) / PAGE_SIZE;
	return 1;
}

int chunkmap_file_write_mark(int fd, const char *text)
{
	struct mark mark = { 0 };
	size_t len = strlen(text);
	int r;

	if (len > MARK_TEXT_MAX)
		return -E2BIG;
	memcpy(mark.text, text, len);
	if (len > 0)
		mark.checksum = htole64(checksum_of(mark.text, sizeof(mark.text)));
	r = fullio_write(fd, &mark, sizeof(mark), MARK_OFFSET);
	return r < 0 ? r : chunkmap_file_sync(fd);
}

/* An empty mark has the checksum 0, so that it is all zeros. */
static bool mark_is_good(const struct mark *mark, size_t len)
{
	if (len == 0)
		return mark->checksum == 0;
	return len <= MARK_TEXT_MAX &&
	       le64toh(mark->checksum) == checksum_of(mark->text, sizeof(mark->text));
}

int chunkmap_file_read_mark(int fd, char *buf, size_t size)
{
	struct mark mark;
	size_t len;
	int r;

	assert(size > 0);
	r = fullio_read(fd, &mark, sizeof(mark), MARK_OFFSET);
	if (r < 0)
		return r;
	len = strnlen(mark.text, sizeof(mark.text));
	if (!mark_is_good(&mark, len))
		return -EUCLEAN;
	if (len > size - 1)
		len = size - 1;
	memcpy(buf, mark.text, len);
	buf[len] = '\0';
	return 0;
}
