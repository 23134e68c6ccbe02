"""The exit codes of the command line."""

EXIT_OK, EXIT_WRONG_GRADIENT, EXIT_WRONG_INPUT, EXIT_NON_FINITE = 0, 1, 2, 3
EXIT_FAULT, EXIT_INTERRUPTED, EXIT_NO_READER = 70, 130, 141

EXIT_CODES = """exit codes:
    0  done
    1  a gradient is wrong; one fault was planted; or --plant all missed one;
       or an exercise has not passed
    2  wrong input
    3  a number is not finite: in training, or from a trained model
   70  a fault of minivae itself: --debug shows where
  129  the terminal was closed (SIGHUP)
  130  interrupted (Ctrl-C)
  141  whoever read the output has gone
  143  terminated (SIGTERM)"""
