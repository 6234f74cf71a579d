// What the programs share that make UDP frames: blast.c, numbered.c, probe.c. MAC addresses from text, and the Internet
// checksum (RFC 1071).
#pragma once

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void parse_mac(const char *text, unsigned char *mac) {
  if (sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) != 6) die(text);
}

static unsigned sum(const void *start, int length, unsigned sum) {
  const unsigned char *bytes = start;
  for (int i = 0; i + 1 < length; i += 2) sum += (unsigned)bytes[i] << 8 | bytes[i + 1];
  return length & 1 ? sum + ((unsigned)bytes[length - 1] << 8) : sum;
}

static unsigned short checksum(unsigned sum) {
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return htons((unsigned short)~sum);
}
