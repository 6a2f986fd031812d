/* Answer texts with an exported SavedModel through TensorFlow's C API, without Python.
 *
 *   answer FOLDER SIGNATURE INPUTS OUTPUTS ROWS LIBRARY... < rows.txt
 *
 * INPUTS and OUTPUTS are names of the signature, with commas between. Each line of stdin is a
 * row: its inputs in that order, with tabs between; the numbers of one input (token ids) with
 * blanks between. ROWS lines go to the model at a time. Each becomes a line of outputs, likewise.
 * A LIBRARY is a file of tensorflow_text with operations that the graph needs.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"
#include "tensorflow/c/tf_tstring.h"

enum { MOST_TENSORS = 8 };

static TF_Status *status;

static void stop(const char *what, const char *why) {
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}

static void check(const char *what) {
  if (TF_GetCode(status) != TF_OK) stop(what, TF_Message(status));
}

/* --- The signature: a protocol buffer (SignatureDef in MetaGraphDef) --------------------- */

typedef struct {
  const uint8_t *at, *end;
} Bytes;

static uint64_t read_varint(Bytes *bytes) {
  uint64_t value = 0;
  for (int shift = 0; bytes->at < bytes->end && shift < 64; shift += 7) {
    uint8_t byte = *bytes->at++;
    value |= (uint64_t)(byte & 127) << shift;
    if (byte < 128) break;
  }
  return value;
}

/* Find the next field with a number and bytes, and move behind it; 0: there is none. */
static int next_field(Bytes *message, uint64_t number, Bytes *field) {
  while (message->at < message->end) {
    uint64_t key = read_varint(message), size = 0;
    int kind = key & 7;
    if (kind == 0) read_varint(message);
    if (kind == 1 || kind == 5) size = kind == 1 ? 8 : 4;
    if (kind == 2) size = read_varint(message);
    if (size > (uint64_t)(message->end - message->at)) return 0;
    *field = (Bytes){message->at, message->at + size};
    message->at += size;
    if (kind == 2 && key >> 3 == number) return 1;
  }
  return 0;
}

/* What a map field holds under a name. */
static Bytes in_map(Bytes message, uint64_t number, const char *name) {
  Bytes entry, key, value;
  while (next_field(&message, number, &entry)) {
    Bytes rest = entry;
    if (!next_field(&rest, 1, &key) || (size_t)(key.end - key.at) != strlen(name)) continue;
    if (!memcmp(key.at, name, strlen(name)) && next_field(&entry, 2, &value)) return value;
  }
  stop(name, "the model has no signature, input or output of this name");
  return message;
}

/* The graph's tensor for each name in a list with commas; how many there are. */
static int find_tensors(TF_Graph *graph, Bytes signature, uint64_t number, char *names,
                        TF_Output *found) {
  int count = 0;
  for (char *name = strtok(names, ","); name; name = strtok(NULL, ",")) {
    Bytes info = in_map(signature, number, name), field;
    char tensor[1024]; /* operation:index */
    if (count == MOST_TENSORS || !next_field(&info, 1, &field)) stop(name, "cannot be read");
    snprintf(tensor, sizeof tensor, "%.*s", (int)(field.end - field.at), (const char *)field.at);
    char *colon = strrchr(tensor, ':');
    if (colon) *colon = 0;
    found[count].oper = TF_GraphOperationByName(graph, tensor);
    found[count].index = colon ? atoi(colon + 1) : 0;
    if (!found[count++].oper) stop(name, "the graph has no such tensor");
  }
  return count;
}

/* --- Rows ---------------------------------------------------------------------------------- */

/* Cut the first `count` columns off a line, in place. */
static void split(char *line, char **columns, int count) {
  line[strcspn(line, "\n")] = 0;
  for (int column = 0; column < count; column++) {
    columns[column] = line;
    line += strcspn(line, "\t");
    if (!*line && column < count - 1) stop(columns[0], "a row with too few inputs");
    if (*line) *line++ = 0;
  }
}

static TF_Tensor *strings(char *(*rows)[MOST_TENSORS], int column, int64_t count) {
  TF_Tensor *tensor = TF_AllocateTensor(TF_STRING, &count, 1, count * sizeof(TF_TString));
  TF_TString *values = TF_TensorData(tensor);
  for (int64_t row = 0; row < count; row++) {
    TF_StringInit(&values[row]);
    TF_StringCopy(&values[row], rows[row][column], strlen(rows[row][column]));
  }
  return tensor;
}

static TF_Tensor *numbers(char *(*rows)[MOST_TENSORS], int column, int64_t count, int rank) {
  int64_t sizes[] = {count, 1};
  for (char *c = rows[0][column]; rank == 2 && *c; c++) sizes[1] += *c == ' ';
  size_t values = count * sizes[1], next = 0;
  TF_Tensor *tensor = TF_AllocateTensor(TF_INT32, sizes, rank, values * sizeof(int32_t));
  for (int64_t row = 0; row < count; row++) {
    char *text = rows[row][column], *end;
    for (int64_t cell = 0; cell < sizes[1]; cell++, text = end) {
      ((int32_t *)TF_TensorData(tensor))[next++] = strtol(text, &end, 10);
      if (end == text) stop(rows[row][column], "rows of different lengths in one batch");
    }
  }
  return tensor;
}

static void print_row(TF_Tensor *tensor, int64_t row, int64_t rows) {
  int64_t width = TF_TensorElementCount(tensor) / rows;
  for (int64_t cell = row * width; cell < (row + 1) * width; cell++) {
    if (cell > row * width) putchar(' ');
    if (TF_TensorType(tensor) == TF_STRING) {
      TF_TString *text = (TF_TString *)TF_TensorData(tensor) + cell;
      fwrite(TF_StringGetDataPointer(text), 1, TF_StringGetSize(text), stdout);
    } else if (TF_TensorType(tensor) == TF_INT32) {
      printf("%d", (int)((int32_t *)TF_TensorData(tensor))[cell]);
    } else {
      printf("%.9g", ((float *)TF_TensorData(tensor))[cell]);
    }
  }
}

static void answer(TF_Graph *graph, TF_Session *session, char *(*rows)[MOST_TENSORS], int64_t count,
                   TF_Output *inputs, int input_count, TF_Output *outputs, int output_count) {
  TF_Tensor *given[MOST_TENSORS], *got[MOST_TENSORS];
  for (int i = 0; i < input_count; i++) {
    if (TF_OperationOutputType(inputs[i]) == TF_STRING)
      given[i] = strings(rows, i, count);
    else
      given[i] = numbers(rows, i, count, TF_GraphGetTensorNumDims(graph, inputs[i], status));
  }
  TF_SessionRun(session, NULL, inputs, given, input_count, outputs, got, output_count, NULL, 0,
                NULL, status);
  check("the model");
  for (int64_t row = 0; row < count; row++) {
    for (int i = 0; i < output_count; i++) {
      print_row(got[i], row, count);
      putchar(i < output_count - 1 ? '\t' : '\n');
    }
  }
  for (int i = 0; i < input_count; i++) {
    if (TF_TensorType(given[i]) == TF_STRING) {
      for (int64_t row = 0; row < count; row++)
        TF_StringDealloc((TF_TString *)TF_TensorData(given[i]) + row);
    }
    TF_DeleteTensor(given[i]);
  }
  for (int i = 0; i < output_count; i++) TF_DeleteTensor(got[i]);
}

int main(int argc, char **argv) {
  if (argc < 6) stop(argv[0], "FOLDER SIGNATURE INPUTS OUTPUTS ROWS LIBRARY... < rows.txt");
  status = TF_NewStatus();
  for (int i = 6; i < argc; i++) {
    TF_LoadLibrary(argv[i], status);
    check(argv[i]);
  }
  const char *tags[] = {"serve"};
  TF_Graph *graph = TF_NewGraph();
  TF_Buffer *meta = TF_NewBuffer();
  TF_SessionOptions *options = TF_NewSessionOptions();
  TF_Session *session =
      TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, meta, status);
  check(argv[1]);

  const uint8_t *start = meta->data;
  Bytes signature = in_map((Bytes){start, start + meta->length}, 5, argv[2]);
  TF_Output inputs[MOST_TENSORS], outputs[MOST_TENSORS];
  int input_count = find_tensors(graph, signature, 1, argv[3], inputs);
  int output_count = find_tensors(graph, signature, 2, argv[4], outputs);

  int64_t most = atoi(argv[5]) > 0 ? atoi(argv[5]) : 1, count = 0;
  char **lines = calloc(most, sizeof *lines);
  char *(*rows)[MOST_TENSORS] = calloc(most, sizeof *rows);
  size_t *sizes = calloc(most, sizeof *sizes);
  while (getline(&lines[count], &sizes[count], stdin) >= 0) {
    split(lines[count], rows[count], input_count);
    if (++count < most) continue;
    answer(graph, session, rows, count, inputs, input_count, outputs, output_count);
    count = 0;
  }
  if (count) answer(graph, session, rows, count, inputs, input_count, outputs, output_count);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  return 0;
}
