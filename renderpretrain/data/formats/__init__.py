"""Files of other people's formats, from bytes to columns: nothing here opens a file or knows of a data set.

Each reader takes the bytes of a file and gives its columns by the names that the file has for them: 1-D
arrays, all of one length, of the type that is stored. What is no such file is a ``ValueError`` of one line,
``expected ..., got ...``; who asked adds the file, the frame and the field. Sizes that a file declares are
compared with the bytes that there are before anything is made of them.
"""
