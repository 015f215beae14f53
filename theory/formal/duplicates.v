(* Where the effective rank cannot rise: units are duplicates up to sign, or orthogonal (R13). *)
Set Warnings "-notation-overridden,-ambiguous-paths".
From mathcomp Require Import all_ssreflect all_algebra.
From Lop Require Import rank identities published.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

(* R13: the sizes n_k of classes, A of them *)
Section Sizes.
Variable R : realFieldType.
Theorem R13_sizes (I : finType) (A : {set I}) (n_ : I -> R) :
  (\sum_(k in A) n_ k) ^+ 2 <= #|A|%:R * (\sum_(k in A) n_ k ^+ 2)
    ?= iff [forall (k | k \in A), #|A|%:R * n_ k == \sum_(l in A) n_ l].
Proof.
have [->|/set0Pn[k0 k0A]] := eqVneq A set0.
  rewrite !big_set0 expr0n mulr0; split=> //; rewrite eqxx; apply/esym/forallP => k; by rewrite inE.
set s := \sum_(k in A) n_ k; set S := \sum_(k in A) _ ^+ 2.
have cp : 0 < #|A|%:R :> R by rewrite ltr0n; apply/card_gt0P; exists k0.
have gap : \sum_(k in A) (#|A|%:R * n_ k - s) ^+ 2 = #|A|%:R * (#|A|%:R * S - s ^+ 2).
  under eq_bigr do rewrite sqrrB exprMn -mulrA; rewrite big_split sumrB /=.
  rewrite -mulr_sumr sumrMnl -mulr_sumr -mulr_suml -/s -/S sumr_const mulrBr [_ * (_ * S)]mulrA -!expr2.
  by rewrite -[s ^+ 2 *+ _]mulr_natl mulr2n opprD -!mulr_sumr -/s -mulrA -expr2 addrA subrK.
have pos k : 0 <= (#|A|%:R * n_ k - s) ^+ 2 by exact: sqr_ge0.
split; first by rewrite -subr_ge0 -(pmulr_rge0 _ cp) -gap sumr_ge0.
rewrite eq_sym -subr_eq0 -(inj_eq (mulfI (lt0r_neq0 cp))) mulr0 -gap psumr_eq0 //.
apply/allP/forall_inP => [h k kA|h k _]; last by apply/implyP => /h/eqP->; rewrite subrr expr0n.
by have := h k (mem_index_enum k); rewrite kA /= sqrf_eq0 subr_eq0.
Qed.
End Sizes.

(* R13 (i): every correlation is 0, 1 or -1.  Then units i and j with C i j != 0 are duplicates up to the sign C i j, and a
   class is all that duplicates one unit *)
Section Classes.
Variables (R : realFieldType) (n : nat) (C : 'M[R]_n).
Hypothesis sym : forall i j, C i j = C j i.
Hypothesis diag : forall i, C i i = 1.
Hypothesis psd : forall x, 0 <= form C x.
Hypothesis ends : forall i j, [\/ C i j = 0, C i j = 1 | C i j = -1].
Definition class i := [set j | C i j != 0].
Definition classes := [set class i | i in 'I_n].

Let one i j : C i j != 0 -> C i j * C i j = 1.
Proof. by case: (ends i j) => ->; rewrite ?eqxx // ?mulr1 // mulrNN mulr1. Qed.

Theorem R13_duplicates i j : C i j != 0 -> forall k, C i k = C i j * C j k.
Proof.
move=> cij k; apply/eqP; rewrite -subr_eq0; set d := _ - _; apply: contraT => d0.
pose x t l := (l == k)%:R + t * (l == i)%:R + - (t * C i j) * (l == j)%:R : R.
have formE t : form C (x t) = 1 + t * d *+ 2.
  have row m : \sum_l C m l * x t l = C m k + t * C m i - t * C i j * C m j.
    under eq_bigr do rewrite !mulrDr mulrCA [C m _ * (- _ * _)]mulrCA.
    by rewrite !big_split -!mulr_sumr /= !sum_delta mulNr.
  have -> : form C (x t) = \sum_m (C m k + t * C m i - t * C i j * C m j) * x t m.
    by apply: eq_bigr => m _; rewrite row mulrC.
  pose y m := C m k + t * C m i - t * C i j * C m j.
  have -> : \sum_m (C m k + t * C m i - t * C i j * C m j) * x t m = y k + t * y i - t * C i j * y j.
    under eq_bigr do rewrite -/(y _) !mulrDr mulrCA [y _ * (- _ * _)]mulrCA.
    by rewrite !big_split -!mulr_sumr /= !sum_delta mulNr.
  rewrite /y !diag (sym k i) (sym k j) (sym j i) !mulr1 classes_identity /d.
  by rewrite one // subrr mulr0 addr0.
have := psd (x (- d^-1)); rewrite formE mulNr mulVf //.
by rewrite mulNrn subr_ge0 lern1.
Qed.

Let dup_sym i j : (C i j != 0) = (C j i != 0). Proof. by rewrite sym. Qed.
(* so to be duplicates is an equivalence *)
Theorem R13_classes i j : (class i == class j) = (C i j != 0).
Proof.
apply/eqP/idP => [/setP/(_ j)|cij]; first by rewrite !inE diag oner_eq0.
apply/setP => k; rewrite !inE (R13_duplicates cij) mulf_eq0 negb_or cij //.
Qed.

Theorem R13_rank : \rank C = #|classes|.
Proof.
have [f fE] : exists f : 'I_#|classes| -> 'I_n, forall p, class (f p) = enum_val p.
  apply: (@fin_all_exists [finType of 'I_#|classes|] (fun=> 'I_n) (fun p i => class i = enum_val p)) => p.
  have /imsetP[i _ ->] := enum_valP p; by exists i.
pose S := \matrix_(p < #|classes|, j < n) C (f p) j.
pose T := \matrix_(j < n, p < #|classes|) (j == f p)%:R : 'M[R]_(n, #|classes|).
pose D := \matrix_(i < n, p < #|classes|) C i (f p).
have ST : S *m T = 1%:M.
  apply/matrixP => p q; rewrite !mxE; under eq_bigr do rewrite !mxE.
  rewrite sum_delta; have [->|ne] := eqVneq p q; first by rewrite diag.
  by apply/eqP; apply: contraNT ne; rewrite -R13_classes !fE => /eqP/enum_val_inj->.
have DS : C = D *m S.
  apply/matrixP => i j; rewrite mxE; under eq_bigr do rewrite !mxE.
  have ci : class i \in classes by apply: imset_f.
  have fi : class (f (enum_rank_in ci (class i))) = class i by rewrite fE enum_rankK_in.
  have cif : C i (f (enum_rank_in ci (class i))) != 0 by rewrite -R13_classes fi.
  rewrite (bigD1 (enum_rank_in ci (class i))) //= big1 ?addr0 => [|p ne]; first exact: R13_duplicates.
  have [->|] := eqVneq (C i (f p)) 0; first by rewrite mul0r.
  rewrite -R13_classes fE => /eqP pE; case/negP: ne; rewrite -(inj_eq enum_val_inj) enum_rankK_in //; by rewrite pE.
have SC : S = T^T *m C.
  apply/matrixP => p j; rewrite !mxE; under eq_bigr do rewrite !mxE mulrC.
  by rewrite sum_delta.
have rS : \rank S = #|classes|.
  apply/eqP; rewrite eqn_leq rank_leq_row /= -[X in (X <= _)%N](mxrank1 R) -ST; exact: mxrankM_maxl.
apply/eqP; rewrite eqn_leq -{2}rS {1}DS {2}SC mxrankM_maxr andbT.
by rewrite -{2}rS mxrankM_maxr.
Qed.

(* the trace n is the sum of the sizes of all classes, and the norm that of their squares *)
Theorem R13_norm : \sum_(A in classes) #|A|%:R = n%:R :> R /\ frob C = \sum_(A in classes) #|A|%:R ^+ 2.
Proof.
have members A : A \in classes -> [set i | class i == A] = A.
  move=> /imsetP[j _ ->]; apply/setP => i; by rewrite !inE R13_classes dup_sym.
split.
  rewrite -natr_sum -[n in RHS]card_ord -cardsT -sum1_card; congr _%:R.
  rewrite (partition_big class (mem classes)) => [|i _]; last exact: imset_f.
  apply: eq_bigr => A /members AE; rewrite -[in LHS]AE -sum1_card; apply: eq_bigl => i; by rewrite !inE.
rewrite /frob (partition_big class (mem classes)) => [|i _]; last exact: imset_f.
apply: eq_bigr => A AA; rewrite (eq_bigr (fun=> #|A|%:R)) => [|i /eqP<-].
  rewrite sumr_const expr2 -mulr_natr; congr (_ * _%:R); rewrite -[in RHS](members _ AA).
  by apply: eq_card => i; rewrite !inE.
rewrite -sum1_card natr_sum [RHS]big_mkcond; apply: eq_bigr => j _; rewrite inE.
by have [->|/one] := eqVneq (C i j) 0; rewrite ?expr0n //= expr2.
Qed.
End Classes.
