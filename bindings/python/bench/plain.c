/* plain.c - the interpreter as it is, linked as mirt-python is. */
#include <Python.h>

int main(int argc, char **argv) { return Py_BytesMain(argc, argv); }
