/* Sits between a process and its disk: records every change of files below one folder, and can make calls fail.
 *
 * Preloaded (LD_PRELOAD) into the process under test; `shim.py` builds and drives it. All calls on files of the
 * folder pass one lock, so that the trace has one order: what was asked of the disk, and the marks of the process
 * under test (what it promised) between it. `disk.py` reads the trace. Shared memory of SQLite (`-shm`) is no
 * durable state and is not recorded.
 *
 * A record is a header (see struct record) followed by `length` bytes: data written, a name, or a mark.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { CREATE = 1, OPEN, WRITE, TRUNCATE, SYNC, RENAME, UNLINK, SYNCDIR, MARK, FAULT };

/* Calls that can be made to fail, as bits. */
enum call { C_WRITE = 1, C_SYNC = 2, C_TRUNCATE = 4, C_OPEN = 8, C_RENAME = 16, C_UNLINK = 32 };

struct record {
    uint32_t kind, file;
    uint64_t offset;
    uint32_t length, extra;
};

#define MAX_FDS 65536
#define MAX_FILES 65536

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char folder[PATH_MAX];
static size_t folder_length;
static int trace_fd = -1;
static unsigned char watched[MAX_FDS]; /* 1 file, 2 folder */
static uint32_t file_of[MAX_FDS];
static struct { dev_t device; ino_t inode; } files[MAX_FILES];
static uint32_t file_count;
static unsigned sync_delay_us;

static unsigned fault_calls;
static long fault_at, counted;
static int fault_errno, fault_forever, fault_partial;

static void put(enum kind kind, uint32_t file, uint64_t offset, const void *data, size_t length, uint32_t extra)
{
    struct record head = {kind, file, offset, (uint32_t)length, extra};
    struct iovec parts[2] = {{&head, sizeof head}, {(void *)data, length}};
    if (trace_fd < 0) return;
    if (syscall(SYS_writev, trace_fd, parts, 2) != (long)(sizeof head + length)) abort();
}

static const char *inside(const char *path)
{
    if (!folder_length || strncmp(path, folder, folder_length) || path[folder_length] != '/') return NULL;
    path += folder_length + 1;
    size_t length = strlen(path);
    if (length >= 4 && !strcmp(path + length - 4, "-shm")) return NULL;
    return path;
}

/* True where this call is to fail; errno is set. The lock is held. */
static int fails(enum call call)
{
    if (!(fault_calls & call)) return 0;
    counted++;
    if (!fault_at || counted < fault_at || (counted > fault_at && !fault_forever)) return 0;
    char text[64];
    int length = 0;
    for (const char *c = "call "; *c; c++) text[length++] = *c;
    long n = counted;
    char digits[24];
    int d = 0;
    do digits[d++] = (char)('0' + n % 10); while (n /= 10);
    while (d) text[length++] = digits[--d];
    put(FAULT, 0, (uint64_t)counted, text, (size_t)length, (uint32_t)call);
    errno = fault_errno;
    return 1;
}

/* A folder is synced: its name below the watched one. */
static void put_folder(int fd)
{
    char link[64] = "/proc/self/fd/", path[PATH_MAX];
    int length = 14, digits = 1;
    for (int n = fd; n >= 10; n /= 10) digits++;
    for (int i = digits, n = fd; i-- > 0; n /= 10) link[length + i] = (char)('0' + n % 10);
    link[length + digits] = 0;
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) abort();
    path[size] = 0;
    const char *name = inside(path);
    put(SYNCDIR, 0, 0, name ? name : "", name ? strlen(name) : 0, 0);
}

static uint32_t number_of(int fd, int created)
{
    struct stat status;
    if (fstat(fd, &status)) abort();
    if (!created)
        for (uint32_t i = file_count; i-- > 0;)
            if (files[i].inode == status.st_ino && files[i].device == status.st_dev) return i + 1;
    if (file_count == MAX_FILES) abort();
    files[file_count].inode = status.st_ino;
    files[file_count].device = status.st_dev;
    return ++file_count;
}

/* Driven by shim.py */

int torture_start(const char *path, int trace, unsigned delay_us)
{
    pthread_mutex_lock(&lock);
    strncpy(folder, path, sizeof folder - 1);
    folder_length = strlen(folder);
    trace_fd = trace;
    sync_delay_us = delay_us;
    file_count = 0;
    pthread_mutex_unlock(&lock);
    return 1;
}

void torture_mark(const char *text, size_t length)
{
    pthread_mutex_lock(&lock);
    put(MARK, 0, 0, text, length, 0);
    pthread_mutex_unlock(&lock);
}

void torture_fault(unsigned calls, long at, int error, int forever, int partial)
{
    pthread_mutex_lock(&lock);
    fault_calls = calls, fault_at = at, fault_errno = error, fault_forever = forever, fault_partial = partial;
    counted = 0;
    pthread_mutex_unlock(&lock);
}

long torture_counted(void) { return counted; }

/* The calls */

static int opened(int at, const char *path, int flags, mode_t mode)
{
    const char *name = at == AT_FDCWD || path[0] == '/' ? inside(path) : NULL;
    int is_root = folder_length && !strcmp(path, folder);
    if (!name && !is_root) return (int)syscall(SYS_openat, at, path, flags | O_LARGEFILE, mode);
    pthread_mutex_lock(&lock);
    struct stat status;
    int existed = !stat(path, &status);
    int is_folder = existed && S_ISDIR(status.st_mode);
    int fd = -1;
    int create = !existed && flags & O_CREAT;
    /* A full disk minds new files, a read-only one those that are to be written. */
    int minds = fault_errno == ENOSPC ? create : fault_errno == EROFS ? flags & (O_WRONLY | O_RDWR | O_CREAT) : 1;
    if (!minds || !fails(C_OPEN)) fd = (int)syscall(SYS_openat, at, path, flags | O_LARGEFILE, mode);
    if (fd >= 0 && fd < MAX_FDS) {
        watched[fd] = is_folder ? 2 : 1;
        if (is_folder) {
            file_of[fd] = 0;
        } else {
            file_of[fd] = number_of(fd, create);
            put(create ? CREATE : OPEN, file_of[fd], 0, name, strlen(name), 0);
            if (existed && flags & O_TRUNC && status.st_size) put(TRUNCATE, file_of[fd], 0, NULL, 0, 0);
        }
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

#define MODE_OF(flags) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list more; \
        va_start(more, flags); \
        mode = va_arg(more, mode_t); \
        va_end(more); \
    }

int open(const char *path, int flags, ...) { MODE_OF(flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE_OF(flags) return opened(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE_OF(flags) return opened(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE_OF(flags) return opened(at, path, flags, mode); }

int close(int fd)
{
    if (fd >= 0 && fd < MAX_FDS) watched[fd] = 0;
    return (int)syscall(SYS_close, fd);
}

static int is_file(int fd) { return fd >= 0 && fd < MAX_FDS && watched[fd] == 1; }

static ssize_t written(int fd, const void *data, size_t size, off_t offset, int positioned)
{
    pthread_mutex_lock(&lock);
    if (!positioned) {
        int flags = (int)syscall(SYS_fcntl, fd, F_GETFL);
        offset = lseek(fd, 0, flags & O_APPEND ? SEEK_END : SEEK_CUR);
    }
    ssize_t done;
    int failing = fails(C_WRITE);
    if (failing && !(fault_partial && size > 1)) {
        done = -1;
    } else {
        if (failing) size /= 2; /* half of it arrives */
        done = positioned ? syscall(SYS_pwrite64, fd, data, size, offset) : syscall(SYS_write, fd, data, size);
        if (done > 0) put(WRITE, file_of[fd], (uint64_t)offset, data, (size_t)done, 0);
        if (failing) done = -1, errno = fault_errno;
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

ssize_t write(int fd, const void *data, size_t size)
{
    if (!is_file(fd)) return syscall(SYS_write, fd, data, size);
    return written(fd, data, size, 0, 0);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    if (!is_file(fd)) return syscall(SYS_pwrite64, fd, data, size, offset);
    return written(fd, data, size, offset, 1);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    if (!is_file(fd)) return syscall(SYS_pwrite64, fd, data, size, offset);
    return written(fd, data, size, offset, 1);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    if (!is_file(fd)) return syscall(SYS_writev, fd, parts, count);
    ssize_t total = 0;
    for (int i = 0; i < count; i++) {
        ssize_t done = written(fd, parts[i].iov_base, parts[i].iov_len, 0, 0);
        if (done < 0) return total ? total : done;
        total += done;
        if ((size_t)done < parts[i].iov_len) break;
    }
    return total;
}

/* Copies inside the kernel would not be seen: callers fall back to reading and writing. */
ssize_t sendfile(int out, int in, off_t *offset, size_t size)
{
    if (!is_file(out)) return syscall(SYS_sendfile, out, in, offset, size);
    errno = EINVAL;
    return -1;
}
ssize_t sendfile64(int out, int in, off64_t *offset, size_t size) { return sendfile(out, in, offset, size); }

ssize_t copy_file_range(int in, off64_t *in_at, int out, off64_t *out_at, size_t size, unsigned flags)
{
    if (!is_file(out)) return syscall(SYS_copy_file_range, in, in_at, out, out_at, size, flags);
    errno = EXDEV;
    return -1;
}

/* Room made beforehand reads as zeros: to the trace a file that grew. Counts as a write. */
static int allocated(int fd, off_t offset, off_t length)
{
    struct stat status;
    pthread_mutex_lock(&lock);
    int done = -1;
    if (!fails(C_WRITE) && !fstat(fd, &status)) {
        done = (int)syscall(SYS_fallocate, fd, 0, offset, length);
        if (!done && offset + length > status.st_size)
            put(TRUNCATE, file_of[fd], (uint64_t)(offset + length), NULL, 0, 0);
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int posix_fallocate(int fd, off_t offset, off_t length)
{
    if (is_file(fd)) return allocated(fd, offset, length) ? errno : 0;
    return syscall(SYS_fallocate, fd, 0, offset, length) ? errno : 0;
}
int posix_fallocate64(int fd, off64_t offset, off64_t length) { return posix_fallocate(fd, offset, length); }

int fallocate(int fd, int mode, off_t offset, off_t length)
{
    if (!is_file(fd)) return (int)syscall(SYS_fallocate, fd, mode, offset, length);
    if (!mode) return allocated(fd, offset, length);
    errno = EOPNOTSUPP;
    return -1;
}
int fallocate64(int fd, int mode, off64_t offset, off64_t length) { return fallocate(fd, mode, offset, length); }

static int synced(int fd, long call)
{
    if (fd < 0 || fd >= MAX_FDS || !watched[fd]) return (int)syscall(call, fd);
    if (sync_delay_us) usleep(sync_delay_us);
    pthread_mutex_lock(&lock);
    int done = -1;
    if (!fails(C_SYNC)) {
        done = 0; /* what the disk holds is decided by disk.py, not by this machine's disk */
        if (watched[fd] == 2) put_folder(fd);
        else put(SYNC, file_of[fd], 0, NULL, 0, 0);
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

int ftruncate(int fd, off_t size)
{
    if (!is_file(fd)) return (int)syscall(SYS_ftruncate, fd, size);
    pthread_mutex_lock(&lock);
    int done = -1;
    if (!fails(C_TRUNCATE)) {
        done = (int)syscall(SYS_ftruncate, fd, size);
        if (!done) put(TRUNCATE, file_of[fd], (uint64_t)size, NULL, 0, 0);
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}
int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

static int renamed(const char *from, const char *to)
{
    const char *old = inside(from), *new = inside(to);
    if (!old && !new) return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    pthread_mutex_lock(&lock);
    int done = -1;
    if (!fails(C_RENAME)) {
        done = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
        if (!done) {
            char both[2 * PATH_MAX];
            size_t first = strlen(old ? old : "") + 1, second = strlen(new ? new : "");
            memcpy(both, old ? old : "", first);
            memcpy(both + first, new ? new : "", second);
            put(RENAME, 0, 0, both, first + second, 0);
        }
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int rename(const char *from, const char *to) { return renamed(from, to); }
int renameat(int at, const char *from, int to_at, const char *to)
{
    if (at == AT_FDCWD && to_at == AT_FDCWD) return renamed(from, to);
    return (int)syscall(SYS_renameat2, at, from, to_at, to, 0);
}

static int unlinked(const char *path)
{
    const char *name = inside(path);
    if (!name) return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    pthread_mutex_lock(&lock);
    int done = -1;
    if (!fails(C_UNLINK)) {
        done = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
        if (!done) put(UNLINK, 0, 0, name, strlen(name), 0);
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int unlink(const char *path) { return unlinked(path); }
int unlinkat(int at, const char *path, int flags)
{
    if (at == AT_FDCWD && !flags) return unlinked(path);
    return (int)syscall(SYS_unlinkat, at, path, flags);
}
