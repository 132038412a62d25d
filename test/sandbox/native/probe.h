// Shared by the hostile probes: small programs that try what a sandbox must refuse.
//
// A probe reports one line for each thing it tried:
//
//   breach WHAT            it was possible
//   refused WHAT: ERROR    the kernel said no
//   took WHAT              it was possible and may be: the host's canaries decide

#pragma once
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

// The value of a probe's argument "name=value"; empty when there is none.
const char *argument(const char *name);
long number(const char *name, long otherwise);

void breach(const char *format, ...);
void refused(const char *what);
void took(const char *format, ...);

// Reports what a call gave: not negative is a breach.
long attempt(const char *what, long result);

// Seconds since an arbitrary start.
double now(void);

struct probe {
  const char *id;
  void (*run)(void);
};

extern const struct probe exhaustion_probes[];
extern const struct probe escape_probes[];
extern const struct probe peek_probes[];
extern const struct probe network_probes[];
