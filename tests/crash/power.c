/* What a power cut would take away: preloaded into a server, this notes for every write to its database what was
 * there before, and forgets the notes when the file is synchronised. After the process was killed, `crash.py` puts
 * back what the notes hold: the writes that no disk had promised to keep.
 *
 *   POWER_NOTES   folder of the notes, one file for each database file (named by its inode)
 *   POWER_LIES    if set, synchronising forgets nothing: a disk that lies, or fsync switched off
 *   POWER_CUT     when a file of this name appears, the process kills itself at its next synchronisation, before it
 *
 * A note: int64 offset, int64 length of the file before, int64 number of bytes that follow, those bytes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int notes_of(int fd) {
  const char *folder = getenv("POWER_NOTES");
  char link[64], path[4096];
  struct stat status;
  if (folder == NULL) return -1;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return -1;
  path[length] = 0;
  const char *name = strrchr(path, '/');
  if (name == NULL || strncmp(name, "/xtrace.sqlite3", 15) != 0 || strstr(name, "-shm") != NULL) return -1;
  if (fstat(fd, &status) != 0) return -1;
  snprintf(path, sizeof path, "%s/%lu", folder, (unsigned long)status.st_ino);
  return open(path, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
}

static void note(int fd, off64_t offset, size_t count) {
  static ssize_t (*real_write)(int, const void *, size_t);
  if (real_write == NULL) real_write = dlsym(RTLD_NEXT, "write");
  int notes = notes_of(fd);
  if (notes < 0) return;
  struct stat status;
  fstat(fd, &status);
  char *record = malloc(24 + count);
  ssize_t before = count == 0 ? 0 : pread64(fd, record + 24, count, offset);
  if (before < 0) before = 0;
  long long head[3] = {offset, status.st_size, before};
  memcpy(record, head, 24);
  if (real_write(notes, record, 24 + before) != 24 + before) abort();
  free(record);
  close(notes);
}

static void cut_here(void) {
  const char *name = getenv("POWER_CUT");
  if (name != NULL && unlink(name) == 0) raise(SIGKILL);
}

static void forget(int fd) {
  int notes = getenv("POWER_LIES") ? -1 : notes_of(fd);
  if (notes < 0) return;
  static int (*real_truncate)(int, off64_t);
  if (real_truncate == NULL) real_truncate = dlsym(RTLD_NEXT, "ftruncate64");
  if (real_truncate(notes, 0) != 0) abort();
  close(notes);
}

ssize_t pwrite64(int fd, const void *data, size_t count, off64_t offset) {
  static ssize_t (*real)(int, const void *, size_t, off64_t);
  if (real == NULL) real = dlsym(RTLD_NEXT, "pwrite64");
  pthread_mutex_lock(&lock);
  note(fd, offset, count);
  ssize_t written = real(fd, data, count, offset);
  pthread_mutex_unlock(&lock);
  return written;
}

ssize_t pwrite(int fd, const void *data, size_t count, off_t offset) { return pwrite64(fd, data, count, offset); }

ssize_t write(int fd, const void *data, size_t count) {
  static ssize_t (*real)(int, const void *, size_t);
  if (real == NULL) real = dlsym(RTLD_NEXT, "write");
  off64_t offset = lseek64(fd, 0, SEEK_CUR);
  if (offset < 0) return real(fd, data, count); /* a pipe, a socket */
  pthread_mutex_lock(&lock);
  note(fd, offset, count);
  ssize_t written = real(fd, data, count);
  pthread_mutex_unlock(&lock);
  return written;
}

int ftruncate64(int fd, off64_t length) {
  static int (*real)(int, off64_t);
  if (real == NULL) real = dlsym(RTLD_NEXT, "ftruncate64");
  struct stat status;
  pthread_mutex_lock(&lock);
  if (fstat(fd, &status) == 0 && status.st_size > length) note(fd, length, status.st_size - length);
  else note(fd, length, 0);
  int result = real(fd, length);
  pthread_mutex_unlock(&lock);
  return result;
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

static int synchronised(int fd, int (*real)(int)) {
  pthread_mutex_lock(&lock);
  cut_here();
  int result = real(fd);
  if (result == 0) forget(fd);
  pthread_mutex_unlock(&lock);
  return result;
}

int fdatasync(int fd) {
  static int (*real)(int);
  if (real == NULL) real = dlsym(RTLD_NEXT, "fdatasync");
  return synchronised(fd, real);
}

int fsync(int fd) {
  static int (*real)(int);
  if (real == NULL) real = dlsym(RTLD_NEXT, "fsync");
  return synchronised(fd, real);
}
