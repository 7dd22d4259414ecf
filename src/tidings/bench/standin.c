/* A stand-in for SendGrid under load: one thread, epoll, keep-alive HTTP/1.1, no dependencies.
 *
 *   standin [--port P] [--latency-ms N] [--lifeline]
 *
 * It binds 127.0.0.1, prints "listening PORT" and keeps a ledger of every reference that it took:
 *
 *   POST   …/v3/mail/send                        202 with X-Message-Id, after the latency
 *   GET    /_sandbox/stats                       counters as JSON
 *   GET    /_sandbox/references?after=&limit=    a line each: reference, arrival (unix ns), times taken, credential
 *   DELETE /_sandbox/messages                    forget
 *
 * The credential is the FNV-1a hash of the Authorization header, so that no secret is kept. --lifeline ends the
 * program when its standard input does, so that it never outlives who started it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    FIRST_BUFFER = 4096,
    MOST_HEAD = 16 << 10,
    MOST_BODY = 1 << 20,
    MOST_LINES = 100000,
    LINE_ROOM = 112,
    MOST_EVENTS = 512,
};

/* ---- the ledger ------------------------------------------------------------------------------------------------ */

typedef struct {
    uint8_t delivery[16];
    uint32_t n;
    uint32_t taken;          /* how often this reference was taken */
    uint32_t delivery_taken; /* how often its delivery was; kept in the delivery's first record alone */
    uint64_t credential;
    uint64_t arrived_ns;
} Record;

/* Two open-addressed indexes over one append-only list; a cell holds the record's position + 1. */
typedef struct {
    uint32_t *cells;
    size_t mask, used;
} Index;

typedef struct {
    Record *records;
    size_t count, room;
    Index by_reference, by_delivery;
    uint64_t requests, accepted, refused, unreferenced, repeated, repeated_deliveries, deliveries;
} Ledger;

static void *must(void *memory) {
    if (!memory) {
        perror("standin: out of memory");
        exit(1);
    }
    return memory;
}

static uint64_t hash_of(const uint8_t *bytes, size_t length) {
    uint64_t hash = 14695981039346656037ULL;
    for (size_t i = 0; i < length; i++) hash = (hash ^ bytes[i]) * 1099511628211ULL;
    return hash;
}

static size_t start_cell(const Index *index, const Record *record) {
    uint64_t hash = hash_of(record->delivery, 16);
    return (hash ^ hash >> 29) & index->mask;
}

static void index_reset(Index *index, size_t size) {
    free(index->cells);
    index->cells = must(calloc(size, sizeof *index->cells));
    index->mask = size - 1;
    index->used = 0;
}

static void index_put(Index *index, const Record *record, uint32_t position) {
    size_t cell = start_cell(index, record);
    while (index->cells[cell]) cell = (cell + 1) & index->mask;
    index->cells[cell] = position + 1;
    index->used++;
}

static void index_add(Index *index, const Record *records, uint32_t position) {
    if (index->used * 2 > index->mask) {
        Index wider = {0};
        index_reset(&wider, (index->mask + 1) * 2);
        for (size_t cell = 0; cell <= index->mask; cell++)
            if (index->cells[cell]) index_put(&wider, &records[index->cells[cell] - 1], index->cells[cell] - 1);
        free(index->cells);
        *index = wider;
    }
    index_put(index, &records[position], position);
}

static Record *index_find(const Index *index, Record *records, const Record *wanted, int with_n) {
    for (size_t cell = start_cell(index, wanted); index->cells[cell]; cell = (cell + 1) & index->mask) {
        Record *found = &records[index->cells[cell] - 1];
        if (!memcmp(found->delivery, wanted->delivery, 16) && (!with_n || found->n == wanted->n)) return found;
    }
    return NULL;
}

static void ledger_reset(Ledger *ledger) {
    Record *records = ledger->records;
    size_t room = ledger->room;
    Index by_reference = ledger->by_reference, by_delivery = ledger->by_delivery;
    *ledger = (Ledger){.records = records, .room = room, .by_reference = by_reference, .by_delivery = by_delivery};
    index_reset(&ledger->by_reference, 1 << 16);
    index_reset(&ledger->by_delivery, 1 << 16);
}

static void ledger_append(Ledger *ledger, const Record *record) {
    if (ledger->count == ledger->room) {
        ledger->room = ledger->room ? ledger->room * 2 : 1 << 16;
        ledger->records = must(realloc(ledger->records, ledger->room * sizeof *ledger->records));
    }
    ledger->records[ledger->count] = *record;
    index_add(&ledger->by_reference, ledger->records, (uint32_t)ledger->count++);
}

static void ledger_take(Ledger *ledger, const Record *record) {
    Record *same = index_find(&ledger->by_reference, ledger->records, record, 1);
    if (!same)
        ledger_append(ledger, record);
    else if (++same->taken == 2)
        ledger->repeated++;
    Record *first = index_find(&ledger->by_delivery, ledger->records, record, 0);
    if (first) {
        if (++first->delivery_taken == 2) ledger->repeated_deliveries++;
        return;
    }
    ledger->deliveries++;
    index_add(&ledger->by_delivery, ledger->records, (uint32_t)(ledger->count - 1));
}

/* ---- finding our reference in a body --------------------------------------------------------------------------- */

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

/* "<32 hex>-<n>" at p, closed by a quote. */
static int read_reference(const char *p, const char *end, Record *record) {
    if (end - p < 35) return 0;
    for (int i = 0; i < 16; i++) {
        int high = hex_digit(p[2 * i]), low = hex_digit(p[2 * i + 1]);
        if (high < 0 || low < 0) return 0;
        record->delivery[i] = (uint8_t)(high << 4 | low);
    }
    if (p[32] != '-') return 0;
    record->n = 0;
    const char *digits = p + 33;
    for (p = digits; p < end && p - digits < 9 && *p >= '0' && *p <= '9'; p++)
        record->n = record->n * 10 + (uint32_t)(*p - '0');
    return p > digits && p < end && *p == '"';
}

static const char *skip_blanks(const char *p, const char *end) {
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')) p++;
    return p;
}

static size_t take_references(Ledger *ledger, const char *body, size_t length, Record *record) {
    static const char name[] = "\"ref\"";
    const char *end = body + length, *p = body;
    size_t found = 0;
    while ((p = memmem(p, (size_t)(end - p), name, sizeof name - 1))) {
        p = skip_blanks(p + sizeof name - 1, end);
        if (p == end || *p != ':') continue;
        p = skip_blanks(p + 1, end);
        if (p == end || *p != '"' || !read_reference(p + 1, end, record)) continue;
        ledger_take(ledger, record);
        found++;
    }
    return found;
}

/* ---- connections ----------------------------------------------------------------------------------------------- */

typedef struct Connection {
    int fd;
    int waiting, closing, continued; /* waiting: the answer is held back; closing: after what is left to write */
    char *in;
    size_t in_used, in_room, request_size;
    char *out;
    size_t out_used, out_sent, out_room;
    uint64_t due_ns;
    struct Connection *before, *after; /* in the queue of answers held back */
} Connection;

typedef struct {
    int epoll_fd;
    uint64_t latency_ns, message;
    Ledger ledger;
    Connection queue; /* every answer waits equally long, so the oldest is due first and a ring is the timer */
} Server;

typedef struct {
    const char *head, *body;
    size_t head_size, body_size;
    const char *method, *path;
    int method_size, path_size;
} Request;

static uint64_t clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

static void unqueue(Connection *c) {
    if (!c->waiting) return;
    c->before->after = c->after;
    c->after->before = c->before;
    c->waiting = 0;
}

static void queue(Server *server, Connection *c) {
    c->due_ns = clock_ns(CLOCK_MONOTONIC) + server->latency_ns;
    c->waiting = 1;
    c->before = server->queue.before;
    c->after = &server->queue;
    c->before->after = c;
    server->queue.before = c;
}

static void drop(Connection *c) {
    unqueue(c);
    close(c->fd);
    free(c->in);
    free(c->out);
    free(c);
}

static void make_room(char **buffer, size_t *room, size_t wanted) {
    if (wanted <= *room) return;
    size_t wider = *room ? *room : FIRST_BUFFER;
    while (wider < wanted) wider *= 2;
    *buffer = must(realloc(*buffer, wider));
    *room = wider;
}

static void say(Connection *c, const char *format, ...) {
    va_list words, again;
    va_start(words, format);
    va_copy(again, words);
    int size = vsnprintf(NULL, 0, format, words);
    va_end(words);
    make_room(&c->out, &c->out_room, c->out_used + (size_t)size + 1);
    vsnprintf(c->out + c->out_used, (size_t)size + 1, format, again);
    va_end(again);
    c->out_used += (size_t)size;
}

static void answer(Connection *c, const char *status, const char *type, const char *body) {
    say(c, "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n%s", status, type, strlen(body), body);
}

/* What the real one says: {"errors": [{"message", "field", "help"}]}. */
static void refuse(Connection *c, const char *status, const char *message) {
    char body[256];
    snprintf(body, sizeof body, "{\"errors\":[{\"message\":\"%s\",\"field\":null,\"help\":null}]}", message);
    answer(c, status, "application/json", body);
}

/* Writes what is left; 0 when the connection is gone. */
static int flush(Server *server, Connection *c) {
    while (c->out_sent < c->out_used) {
        ssize_t wrote = send(c->fd, c->out + c->out_sent, c->out_used - c->out_sent, MSG_NOSIGNAL);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0 && errno == EAGAIN) {
            struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
            epoll_ctl(server->epoll_fd, EPOLL_CTL_MOD, c->fd, &event);
            return 1;
        }
        if (wrote < 0) return 0;
        c->out_sent += (size_t)wrote;
    }
    c->out_used = c->out_sent = 0;
    return !c->closing;
}

/* ---- requests -------------------------------------------------------------------------------------------------- */

/* The value of a header, NULL when there is none; names come with their colon. */
static const char *header(const Request *r, const char *name, size_t *size) {
    size_t name_size = strlen(name);
    const char *end = r->head + r->head_size, *line = r->head;
    while ((line = memmem(line, (size_t)(end - line), "\r\n", 2))) {
        line += 2;
        if ((size_t)(end - line) < name_size || strncasecmp(line, name, name_size)) continue;
        const char *value = skip_blanks(line + name_size, end);
        const char *stop = memmem(value, (size_t)(end - value), "\r\n", 2);
        *size = (size_t)((stop ? stop : end) - value);
        return value;
    }
    return NULL;
}

static int header_has(const Request *r, const char *name, const char *word) {
    size_t size, wanted = strlen(word);
    const char *value = header(r, name, &size);
    for (; value && size >= wanted; value++, size--)
        if (!strncasecmp(value, word, wanted)) return 1;
    return 0;
}

static long query_number(const Request *r, const char *name, long otherwise) {
    const char *found = memmem(r->path, (size_t)r->path_size, name, strlen(name));
    return found ? strtol(found + strlen(name), NULL, 10) : otherwise;
}

static void answer_stats(Connection *c, const Ledger *l) {
    char body[512];
    snprintf(body, sizeof body,
             "{\"sendgrid\":{\"requests\":%lu,\"accepted\":%lu,\"refused\":%lu,\"references\":%zu,\"repeated\":%lu,"
             "\"deliveries\":%lu,\"repeated_deliveries\":%lu,\"unreferenced\":%lu}}",
             l->requests, l->accepted, l->refused, l->count, l->repeated, l->deliveries, l->repeated_deliveries,
             l->unreferenced);
    answer(c, "200 OK", "application/json", body);
}

static size_t write_line(char *to, const Record *record) {
    static const char hex[] = "0123456789abcdef";
    for (int i = 0; i < 16; i++) {
        to[2 * i] = hex[record->delivery[i] >> 4];
        to[2 * i + 1] = hex[record->delivery[i] & 15];
    }
    return 32 + (size_t)sprintf(to + 32, "-%u %lu %u %016lx\n", record->n, record->arrived_ns, record->taken,
                                record->credential);
}

static void answer_references(Connection *c, const Ledger *ledger, const Request *r) {
    long after = query_number(r, "after=", 0), limit = query_number(r, "limit=", MOST_LINES);
    if (after < 0 || limit < 0 || limit > MOST_LINES) {
        refuse(c, "400 Bad Request", "after and limit are numbers, limit at most 100000");
        return;
    }
    size_t first = (size_t)after < ledger->count ? (size_t)after : ledger->count;
    size_t last = first + (size_t)limit < ledger->count ? first + (size_t)limit : ledger->count;
    char *lines = must(malloc((last - first) * LINE_ROOM + 1));
    size_t size = 0;
    for (size_t i = first; i < last; i++) size += write_line(lines + size, &ledger->records[i]);
    say(c, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n", size);
    make_room(&c->out, &c->out_room, c->out_used + size);
    memcpy(c->out + c->out_used, lines, size);
    c->out_used += size;
    free(lines);
}

static void answer_send(Server *server, Connection *c, const Request *r) {
    Ledger *ledger = &server->ledger;
    size_t size;
    const char *authorization = header(r, "authorization:", &size);
    ledger->requests++;
    if (!authorization || size < 8 || strncasecmp(authorization, "Bearer ", 7)) {
        ledger->refused++;
        refuse(c, "401 Unauthorized", "The provided authorization grant is invalid, expired, or revoked");
        return;
    }
    if (!r->body_size || r->body[0] != '{') {
        ledger->refused++;
        refuse(c, "400 Bad Request", "Bad Request");
        return;
    }
    ledger->accepted++;
    Record record = {.taken = 1, .delivery_taken = 1, .arrived_ns = clock_ns(CLOCK_REALTIME)};
    record.credential = hash_of((const uint8_t *)authorization, size);
    if (!take_references(ledger, r->body, r->body_size, &record)) ledger->unreferenced++;
    say(c, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nX-Message-Id: %022lx\r\n\r\n", ++server->message);
    if (server->latency_ns) queue(server, c);
}

static int is(const Request *r, const char *method, const char *path) {
    size_t size = strlen(path);
    return (size_t)r->method_size == strlen(method) && !memcmp(r->method, method, (size_t)r->method_size) &&
           (size_t)r->path_size >= size && !memcmp(r->path, path, size) &&
           ((size_t)r->path_size == size || r->path[size] == '?');
}

static int is_send(const Request *r) {
    static const char path[] = "/v3/mail/send";
    int size = sizeof path - 1;
    return r->method_size == 4 && !memcmp(r->method, "POST", 4) && r->path_size >= size &&
           !memcmp(r->path + r->path_size - size, path, (size_t)size);
}

static void route(Server *server, Connection *c, const Request *r) {
    if (is_send(r)) {
        answer_send(server, c, r);
    } else if (is(r, "GET", "/_sandbox/stats")) {
        answer_stats(c, &server->ledger);
    } else if (is(r, "GET", "/_sandbox/references")) {
        answer_references(c, &server->ledger, r);
    } else if (is(r, "DELETE", "/_sandbox/messages")) {
        ledger_reset(&server->ledger);
        say(c, "HTTP/1.1 204 No Content\r\n\r\n");
    } else {
        refuse(c, "404 Not Found", "Not Found");
    }
}

static int read_request_line(Request *r) {
    const char *end = memmem(r->head, r->head_size, "\r\n", 2);
    if (!end) end = r->head + r->head_size;
    const char *space = memchr(r->head, ' ', (size_t)(end - r->head));
    if (!space) return 0;
    const char *second = memchr(space + 1, ' ', (size_t)(end - space - 1));
    if (!second || end - second < 9 || memcmp(second + 1, "HTTP/1.", 7)) return 0;
    r->method = r->head;
    r->method_size = (int)(space - r->head);
    r->path = space + 1;
    r->path_size = (int)(second - space - 1);
    return 1;
}

static int give_up(Connection *c, const char *status, const char *message) {
    refuse(c, status, message);
    c->closing = 1;
    return -1;
}

/* The length of the body; -1 when it cannot be known or is too long, and that has been answered. */
static long body_length(Connection *c, const Request *r) {
    size_t size;
    if (header_has(r, "transfer-encoding:", "chunked"))
        return give_up(c, "411 Length Required", "Content-Length is needed");
    const char *value = header(r, "content-length:", &size);
    if (!value) return 0;
    char *stop;
    long length = strtol(value, &stop, 10);
    if (stop == value || length < 0) return give_up(c, "400 Bad Request", "Content-Length is no number");
    return length <= MOST_BODY ? length : give_up(c, "413 Payload Too Large", "Payload too large");
}

/* A whole request from what has been read: 1, not yet there: 0, unusable and answered: -1. */
static int next_request(Connection *c, Request *r) {
    if (c->request_size > c->in_used) return 0;
    const char *blank = memmem(c->in, c->in_used, "\r\n\r\n", 4);
    if (!blank) return c->in_used < MOST_HEAD ? 0 : give_up(c, "431 Request Header Fields Too Large", "Too large");
    *r = (Request){.head = c->in, .head_size = (size_t)(blank - c->in)};
    if (!read_request_line(r)) return give_up(c, "400 Bad Request", "Bad Request");
    long length = body_length(c, r);
    if (length < 0) return -1;
    r->body = blank + 4;
    r->body_size = (size_t)length;
    c->request_size = r->head_size + 4 + r->body_size;
    if (c->request_size <= c->in_used) return 1;
    if (!c->continued && header_has(r, "expect:", "100-continue")) {
        c->continued = 1;
        say(c, "HTTP/1.1 100 Continue\r\n\r\n");
    }
    return 0;
}

static void forget_request(Connection *c) {
    c->in_used -= c->request_size;
    memmove(c->in, c->in + c->request_size, c->in_used);
    c->request_size = 0;
    c->continued = 0;
}

/* Answers every whole request that has been read; 0 when the connection is gone. */
static int serve(Server *server, Connection *c) {
    Request request;
    while (!c->waiting && !c->closing && c->in_used && next_request(c, &request) > 0) {
        route(server, c, &request);
        c->closing = header_has(&request, "connection:", "close");
        forget_request(c);
    }
    return c->waiting || flush(server, c);
}

static int receive(Server *server, Connection *c) {
    size_t most = MOST_HEAD + MOST_BODY;
    size_t wanted = c->request_size > c->in_used ? c->request_size : c->in_used + 1;
    make_room(&c->in, &c->in_room, wanted);
    if (c->in_used >= most) return 0;
    ssize_t got = recv(c->fd, c->in + c->in_used, c->in_room - c->in_used, 0);
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    if (got == 0) return 0;
    c->in_used += (size_t)got;
    return serve(server, c);
}

/* ---- the loop -------------------------------------------------------------------------------------------------- */

static void welcome(Server *server, int listener) {
    int fd, yes = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        Connection *c = must(calloc(1, sizeof *c));
        c->fd = fd;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event);
    }
}

static int written(Server *server, Connection *c) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(server->epoll_fd, EPOLL_CTL_MOD, c->fd, &event);
    return flush(server, c) && serve(server, c);
}

/* Sends the answers that have waited long enough; the milliseconds until the next, -1 for none. */
static int release_due(Server *server) {
    Connection *ring = &server->queue;
    uint64_t now_ns = ring->after == ring ? 0 : clock_ns(CLOCK_MONOTONIC);
    while (ring->after != ring && ring->after->due_ns <= now_ns) {
        Connection *c = ring->after;
        unqueue(c);
        if (!flush(server, c) || !serve(server, c)) drop(c);
    }
    return ring->after == ring ? -1 : (int)((ring->after->due_ns - now_ns + 999999) / 1000000);
}

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), yes = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (bind(fd, (struct sockaddr *)&address, size) || listen(fd, 4096)) {
        perror("standin: cannot listen");
        exit(1);
    }
    getsockname(fd, (struct sockaddr *)&address, &size);
    printf("listening %d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static void end_with_parent(void) {
    char byte;
    if (read(STDIN_FILENO, &byte, 1) == 0) exit(0);
}

static void run(Server *server, int listener) {
    struct epoll_event events[MOST_EVENTS];
    for (;;) {
        int count = epoll_wait(server->epoll_fd, events, MOST_EVENTS, release_due(server));
        for (int i = 0; i < count; i++) {
            Connection *c = events[i].data.ptr;
            if (!c)
                welcome(server, listener);
            else if (c == &server->queue)
                end_with_parent();
            else if (!((events[i].events & EPOLLOUT) ? written(server, c) : receive(server, c)))
                drop(c);
        }
    }
}

static void allow_many_connections(void) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

int main(int argc, char **argv) {
    int port = 0, latency_ms = 0, lifeline = 0;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--port") && i + 1 < argc) port = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--latency-ms") && i + 1 < argc) latency_ms = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--lifeline")) lifeline = 1;
        else {
            fprintf(stderr, "usage: %s [--port P] [--latency-ms N] [--lifeline]\n", argv[0]);
            return 2;
        }
    }
    allow_many_connections();
    Server server = {.epoll_fd = epoll_create1(EPOLL_CLOEXEC), .latency_ns = (uint64_t)latency_ms * 1000000ULL};
    server.message = clock_ns(CLOCK_REALTIME);
    server.queue.before = server.queue.after = &server.queue;
    ledger_reset(&server.ledger);
    int listener = listen_on(port);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(server.epoll_fd, EPOLL_CTL_ADD, listener, &event);
    event.data.ptr = &server.queue;
    if (lifeline) epoll_ctl(server.epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &event);
    run(&server, listener);
}
