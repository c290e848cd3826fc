/* A driver that says which of its functions are called, on the standard error, and has no card. */
#include <stdio.h>
#include <string.h>

#define SAY(name) fprintf(stderr, "driver: %s\n", name)

int cuDriverGetVersion(int* version) {
  SAY("cuDriverGetVersion");
  *version = 99000;
  return 0;
}

int cuInit(unsigned flags) {
  SAY("cuInit");
  return 100; /* no device */
}

static int other(void) {
  SAY("another function");
  return 3; /* not initialised */
}

int cuGetProcAddress_v2(const char* name, void** function, int version, unsigned long long flags, int* found) {
  if (found) *found = 0;
  *function = (void*)other;
  if (!strcmp(name, "cuInit")) *function = (void*)cuInit;
  if (!strcmp(name, "cuDriverGetVersion")) *function = (void*)cuDriverGetVersion;
  if (!strncmp(name, "cuGetProcAddress", 16)) *function = (void*)cuGetProcAddress_v2;
  return 0;
}

int cuGetProcAddress(const char* name, void** function, int version, unsigned long long flags) {
  return cuGetProcAddress_v2(name, function, version, flags, 0);
}

int cuGetExportTable(const void** table, const void* id) {
  SAY("cuGetExportTable");
  return 3;
}
