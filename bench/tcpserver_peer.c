/* Both ends of the benchmark of tcpserver, so that neither interpreter counts.

   peer serve                   answer an SMTP dialogue on descriptors 0 and 1
   peer dialogue PORT N AT_ONCE make N connections with HELO, MAIL, RCPT, QUIT
   peer connect PORT N AT_ONCE  make N connections, send a line, read to the end
   peer hold PORT N             make N connections, tell, wait for end of input */

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 2048 };

static const char *dialogue[] = {
    "HELO client.example\r\n", "MAIL FROM:<a@example.org>\r\n", "RCPT TO:<b@example.net>\r\n", "QUIT\r\n"};
enum { STEPS = sizeof dialogue / sizeof *dialogue };

static struct { int step; } state[MOST];
static struct pollfd slots[MOST];

static void put(int fd, const char *text) {
  size_t left = strlen(text);
  while (left) {
    ssize_t done = write(fd, text, left);
    if (done <= 0) exit(1);
    text += done;
    left -= done;
  }
}

static int serve(void) {
  char line[1024];
  size_t have = 0;
  put(1, "220 peer.example ESMTP\r\n");
  for (;;) {
    ssize_t got = read(0, line + have, sizeof line - have);
    if (got <= 0) return 1;
    have += got;
    char *end;
    while ((end = memchr(line, '\n', have)) != NULL) {
      size_t length = end - line + 1;
      if (!strncmp(line, "QUIT", 4)) {
        put(1, "221 peer.example\r\n");
        return 0;
      }
      put(1, "250 ok\r\n");
      memmove(line, line + length, have - length);
      have -= length;
    }
    if (have == sizeof line) return 1;
  }
}

static int dial(int port) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to)) {
    perror("peer: connect");
    exit(1);
  }
  return fd;
}

/* What came was one answer (they are short, and asked for one by one): go on, or end. */
static int advance(int i, int talks) {
  char answer[4096];
  ssize_t got = read(slots[i].fd, answer, sizeof answer);
  if (got <= 0) return 0;
  if (talks && answer[got - 1] == '\n') {
    if (state[i].step < STEPS) put(slots[i].fd, dialogue[state[i].step]);
    state[i].step++;
  }
  return 1;
}

static int run(int port, int total, int at_once, int talks) {
  int started = 0, done = 0;
  for (int i = 0; i < at_once; i++) slots[i].fd = -1;
  while (done < total) {
    for (int i = 0; i < at_once && started < total; i++)
      if (slots[i].fd < 0) {
        slots[i].fd = dial(port);
        slots[i].events = POLLIN;
        state[i].step = 0;
        started++;
        if (!talks) {
          (void)!write(slots[i].fd, "line\n", 5);
          shutdown(slots[i].fd, SHUT_WR);
        }
      }
    if (poll(slots, at_once, 60000) <= 0) return 1;
    for (int i = 0; i < at_once; i++)
      if (slots[i].fd >= 0 && slots[i].revents && !advance(i, talks)) {
        if (talks && state[i].step != STEPS + 1) {
          fprintf(stderr, "peer: connection ended at step %d\n", state[i].step);
          return 1;
        }
        close(slots[i].fd);
        slots[i].fd = -1;
        done++;
      }
  }
  return 0;
}

static int hold(int port, int total) {
  char byte;
  for (int i = 0; i < total; i++) dial(port);
  put(1, "held\n");
  return read(0, &byte, 1) < 0;
}

int main(int argc, char **argv) {
  if (argc == 2 && !strcmp(argv[1], "serve")) return serve();
  if (argc == 5 && atoi(argv[4]) <= MOST)
    return run(atoi(argv[2]), atoi(argv[3]), atoi(argv[4]), !strcmp(argv[1], "dialogue"));
  if (argc == 4) return hold(atoi(argv[2]), atoi(argv[3]));
  return 2;
}
