(* Gradients are derivatives: dual numbers a + b eps with eps^2 = 0. *)
Set Warnings "-notation-overridden,-ambiguous-paths".
From mathcomp Require Import all_ssreflect all_algebra.
From Lop Require Import network.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory.
Local Open Scope ring_scope.

Section DualNumbers.
Variable R : comRingType.
Record dual := Dual { re : R; eps : R }.
Definition pair_of (d : dual) := (re d, eps d).
Definition of_pair (p : R * R) := Dual p.1 p.2.
Lemma pair_ofK : cancel pair_of of_pair. Proof. by case. Qed.
Definition dual_eqMixin := CanEqMixin pair_ofK.
Canonical dual_eqType := EqType dual dual_eqMixin.
Canonical dual_choiceType := ChoiceType dual (CanChoiceMixin pair_ofK).
Definition dual0 := Dual 0 0.
Definition dual1 := Dual 1 0.
Definition dadd (a b : dual) := Dual (re a + re b) (eps a + eps b).
Definition dopp (a : dual) := Dual (- re a) (- eps a).
Definition dmul (a b : dual) := Dual (re a * re b) (re a * eps b + eps a * re b).
Lemma daddA : associative dadd. Proof. by move=> a b c; rewrite /dadd /= !addrA. Qed.
Lemma daddC : commutative dadd. Proof. by move=> a b; rewrite /dadd addrC [eps a + _]addrC. Qed.
Lemma dadd0 : left_id dual0 dadd. Proof. by case=> a b; rewrite /dadd /= !add0r. Qed.
Lemma daddN : left_inverse dual0 dopp dadd. Proof. by case=> a b; rewrite /dadd /dopp /= !addNr. Qed.
Canonical dual_zmodType := ZmodType dual (ZmodMixin daddA daddC dadd0 daddN).
Lemma dmulA : associative dmul.
Proof.
by move=> a b c; congr Dual; rewrite /= ?mulrA // mulrDr mulrDl !mulrA addrA.
Qed.
Lemma dmulC : commutative dmul.
Proof. by move=> a b; congr Dual; rewrite 1?mulrC // addrC; congr (_ + _); rewrite mulrC. Qed.
Lemma dmul1 : left_id dual1 dmul.
Proof. by case=> a b; rewrite /dmul /= !mul1r mul0r addr0. Qed.
Lemma dmulDl : left_distributive dmul dadd.
Proof. by move=> a b c; congr Dual; rewrite /= !mulrDl // addrACA. Qed.
Lemma dual1_neq0 : dual1 != dual0.
Proof. by apply/eqP => -[] /eqP; rewrite oner_eq0. Qed.
Canonical dual_ringType := RingType dual (ComRingMixin dmulA dmulC dmul1 dmulDl dual1_neq0).
Canonical dual_comRingType := ComRingType dual dmulC.
End DualNumbers.

(* Every polynomial p maps a + b eps to p(a) + p'(a) b eps; on dual numbers an activation f is z + d eps |-> f(z) + f'(z) d eps.
   The network at weights w + t eps then has outputs whose part in eps is their derivative in the direction t, and with
   seed = d l / d h the sum on the left is that of the loss. *)
Section Derivative.
Variables (R : comRingType) (V : eqType) (N : net R V) (rk : V -> nat).
Hypothesis dag : acyclic_by N rk.
Notation us := (units N).

Definition dual_net : net (dual_ringType R) V := {|
  units := us; edge := edge N; steps := steps N; inp := inp N; out := out N;
  act := fun v z => Dual (act N v (re z)) (slp N v (re z) * eps z);
  slp := fun v z => 0 |}.
Variables (w t : weights R V) (s : sample R V).
Definition moved : weights (dual_ringType R) V := fun u v => Dual (w u v) (t u v).
Definition h_dual v : dual R := forward dual_net moved (fun v => Dual (xval s v) 0) v.

Lemma re_sum (P : pred V) (F : V -> dual_ringType R) : re (\sum_(u <- us | P u) F u) = \sum_(u <- us | P u) re (F u).
Proof. by apply: (big_morph (@re R)). Qed.
Lemma eps_sum (P : pred V) (F : V -> dual_ringType R) : eps (\sum_(u <- us | P u) F u) = \sum_(u <- us | P u) eps (F u).
Proof. by apply: (big_morph (@eps R)). Qed.

Lemma dual_dag : acyclic_by dual_net rk. Proof. exact: dag. Qed.

Lemma re_forward v : re (h_dual v) = forward N w (xval s) v.
Proof.
move: v; apply: (forward_unique dag) => v; rewrite /h_dual (forwardE dual_dag) /=; case: (inp N v) => //=.
by congr (act N v _); rewrite /preact sumvE re_sum.
Qed.

Lemma re_preact v : re (preact dual_net moved (fun v => Dual (xval s v) 0) v) = preact N w (xval s) v.
Proof. by rewrite /preact !sumvE re_sum; apply: eq_bigr => u _ /=; rewrite -re_forward. Qed.

Lemma eps_forward v : eps (h_dual v) = slope N w (xval s) v *
  (\sum_(u <- us | edge N u v) t u v * forward N w (xval s) u + \sum_(u <- us | edge N u v) w u v * eps (h_dual u)).
Proof.
rewrite /h_dual (forwardE dual_dag) /slope /=; case: (inp N v) => /=; first by rewrite mul0r.
rewrite re_preact; congr (_ * _); rewrite /preact sumvE eps_sum -big_split /=; apply: eq_bigr => u _.
by rewrite -re_forward addrC.
Qed.

Theorem D1_derivative :
  \sum_(v <- us | out N v) seed s v * eps (h_dual v) =
  \sum_(v <- us) \sum_(u <- us | edge N u v) t u v * grad N w [:: s] u v.
Proof.
pose d := backward N w s; pose sl := slope N w (xval s); pose h := forward N w (xval s).
have gE u v : grad N w [:: s] u v = h u * (sl v * d v) by rewrite gradE big_seq1.
have -> : \sum_(v <- us | out N v) seed s v * eps (h_dual v) =
    \sum_(u <- us) d u * eps (h_dual u) - \sum_(u <- us) \sum_(v <- us | edge N u v) w u v * (sl v * d v) * eps (h_dual u).
  rewrite big_mkcond -sumrB; apply: eq_bigr => u _; rewrite -mulr_suml -mulrBl.
  by rewrite /d (backwardE dag) addrK; case: (out N u) => //; rewrite mul0r.
rewrite (exchange_big_dep predT) // -sumrB; apply: eq_bigr => v _.
have -> : \sum_(u <- us | edge N u v) w u v * (sl v * d v) * eps (h_dual u) = d v * sl v * \sum_(u <- us | edge N u v) w u v * eps (h_dual u).
  by rewrite mulr_sumr; apply: eq_bigr => u _; rewrite mulrAC [sl v * _]mulrC mulrC.
rewrite eps_forward -/sl mulrA -mulrBr addrK mulr_sumr; apply: eq_bigr => u _.
by rewrite gE -/h mulrC -mulrA [sl v * _]mulrC.
Qed.
End Derivative.
